// The audit of this process: makes an event of every call that changes something or is refused to.
//
// A change's event is written in the change's own transaction: there is neither one without the other. Where the method has no
// transaction (a token is issued), it is written before the answer leaves. A refused call leaves one ERROR event, written later and on
// its own, so that refusals cost strangers more than us (refusals.ts).
import type { EntityManager } from '@mikro-orm/postgresql';
import { isTransientDatabaseError } from '../db/database-error.ts';
import { type Code, type DomainError, rateLimitReason, TransientError } from '../platform/errors.ts';
import { newId } from '../platform/ids.ts';
import type { AuditedChange, CallAudit } from './call-audit.ts';
import { type AuditEventJson, type EventStatus, toSubjectType } from './event.ts';
import { insertEvent } from './event-queries.ts';
import type { Place, Places } from './places.ts';
import { type EventType, eventTypeOf } from './event-types.ts';
import { changeBounds, type JsonObject, masked, maskedText, refusalBounds, responseBounds } from './masking.ts';
import type { Refusals } from './refusals.ts';

/** A call, as far as events tell of it. */
export interface AuditedCall {
  readonly requestId: string;
  readonly subject: { id: string; type: string } | undefined;
  /** `192.0.2.1:4242`, `2001:db8::1:4242`: as grpc-js writes it. */
  readonly peer: string;
  readonly userAgent: string | undefined;
  /** What it was let in for; empty when it was refused before. */
  readonly grants: readonly unknown[];
  /** What followed `Bearer`, good or not. */
  readonly token: string | undefined;
  /** Undefined when it was refused before it was read. */
  readonly requestBytes: (() => Uint8Array) | undefined;
}

/** Requests and answers of one method as proto JSON. */
export interface MethodJson {
  request(bytes: Uint8Array): JsonObject;
  response(bytes: Uint8Array): JsonObject;
  /** Whether the method answers an operation: then it leaves its event by Operations.begin, and a repeat of it none. */
  answersOperation: boolean;
}

export interface AuditParts {
  fork: () => EntityManager;
  refusals: Refusals;
  places: Places;
  methodJson: (method: string) => MethodJson;
  /** The id of the token that a call's subject came with. */
  tokenIdOf: (subject: { id: string; type: string }) => string | undefined;
  /** Hears of every event that was written. */
  onWritten: (status: EventStatus) => void;
}

/** What the transport needs of it beside what methods see. */
export interface TransportAudit extends CallAudit {
  /** Of a stream: its work goes on until it ends. */
  started(): Promise<void>;
  /** Before the answer is sent. @throws TransientError when the event cannot be written. */
  succeeded(answer: Uint8Array | undefined): Promise<void>;
  failed(error: DomainError, code: number): void;
}

export class Audit {
  readonly parts: AuditParts;

  constructor(parts: AuditParts) {
    this.parts = parts;
  }

  /** Undefined for a method that only reads. Once per method. */
  forMethod(method: string): ((call: AuditedCall) => TransportAudit) | undefined {
    const type = eventTypeOf(method);
    if (type === undefined) return undefined;
    const json = this.parts.methodJson(method);
    return (call) => new AuditOfCall(this.parts, type, json, call);
  }
}

const unauthorizedCodes: ReadonlySet<Code> = new Set(['UNAUTHENTICATED', 'PERMISSION_DENIED']);
/** Who asks too often is counted; to write it down each time would be worse than the calls. */
const isRateLimit = ({ details }: DomainError): boolean =>
  details.some((detail) => detail.kind === 'errorInfo' && detail.reason === rateLimitReason);

/** Of a refused call nothing is looked at that is larger: to read and mask it is work for whoever may not even call. */
const maxRefusedBytes = 32 * 1024;

/** Not worth an event: nothing was asked that this service does. */
const silentCodes: ReadonlySet<Code> = new Set(['UNIMPLEMENTED']);

class AuditOfCall implements TransportAudit {
  readonly #parts: AuditParts;
  readonly #type: EventType;
  readonly #json: MethodJson;
  readonly #call: AuditedCall;
  #subject: { id: string; type: string } | undefined;
  /** The status of the event that its method has written, be it committed or not. */
  #recorded: EventStatus | undefined;

  constructor(parts: AuditParts, type: EventType, json: MethodJson, call: AuditedCall) {
    this.#parts = parts;
    this.#type = type;
    this.#json = json;
    this.#call = call;
  }

  identify(subject: { id: string; type: string }): void {
    this.#subject = subject;
  }

  async record(em: EntityManager, change: AuditedChange): Promise<AuditEventJson> {
    this.#recorded = change.status;
    const parameters = this.#parameters();
    const { resourceId, folderId, resourceName, operationId } = change;
    const shown = masked(parameters, changeBounds);
    const event = this.#event(change.status, shown);
    const about = placeOf(this.#type, parameters);
    const place: Place = {
      kind: this.#type.kind,
      folderId: folderId ?? about.folderId,
      resourceId: resourceId ?? about.resourceId,
      resourceName: resourceName ?? about.resourceName,
      isNew: this.#type.creates,
    };
    event.details = { ...detailsOf(this.#type, shown, place), ...masked(change.details ?? {}, changeBounds) };
    if (operationId !== undefined) event.response = { operationId };
    else if (change.response !== undefined) event.response = masked(change.response, responseBounds);
    return insertEvent(em, this.#parts.places, event, place);
  }

  async started(): Promise<void> {
    await this.#recordAlone({ status: 'STARTED' });
    this.#parts.onWritten('STARTED');
    this.#recorded = undefined;
  }

  async succeeded(answer: Uint8Array | undefined): Promise<void> {
    if (this.#recorded === undefined && !this.#json.answersOperation) await this.#recordAnswer(answer);
    // Committed: the method has succeeded.
    if (this.#recorded !== undefined) this.#parts.onWritten(this.#recorded);
  }

  async #recordAnswer(answer: Uint8Array | undefined): Promise<void> {
    const response = answer === undefined ? {} : { response: readable(() => this.#json.response(answer)) };
    await this.#recordAlone({ status: 'DONE', ...response });
  }

  async #recordAlone(change: AuditedChange): Promise<void> {
    try {
      await this.record(this.#parts.fork(), change);
    } catch (error) {
      if (!isTransientDatabaseError(error)) throw error;
      throw new TransientError('The database did not answer; try again', { cause: error });
    }
  }

  failed(error: DomainError, code: number): void {
    if (silentCodes.has(error.code) || isRateLimit(error)) return;
    const { refusals } = this.#parts;
    const { subject, peer } = this.#call;
    const leftOut = refusals.admit({ subjectId: subject?.id, address: readPeer(peer).address });
    if (leftOut === undefined) return;
    const parameters = this.#parameters(maxRefusedBytes);
    const shown = masked(parameters, refusalBounds);
    const event = this.#event(error.code === 'CANCELLED' ? 'CANCELLED' : 'ERROR', shown);
    event.authorization.authorized = !unauthorizedCodes.has(error.code) && !this.#mayBeHidden(error);
    event.error = { code, message: messageOf(error) };
    const place: Place = { kind: this.#type.kind, ...placeOf(this.#type, parameters) };
    // How many others like it left no event since the last one that did.
    event.details = { ...detailsOf(this.#type, shown, place), ...(leftOut > 0 ? { leftOut } : {}) };
    refusals.add(event, place);
  }

  /** What a caller may not see is answered as if it were not there. */
  #mayBeHidden({ code }: DomainError): boolean {
    return code === 'NOT_FOUND' && this.#call.grants.length === 0;
  }

  #parameters(maxBytes = Infinity): JsonObject {
    const { requestBytes } = this.#call;
    if (requestBytes === undefined) return {};
    return readable(() => {
      const bytes = requestBytes();
      return bytes.length > maxBytes ? { truncated: true } : this.#json.request(bytes);
    });
  }

  #event(status: EventStatus, requestParameters: JsonObject): AuditEventJson {
    const { requestId, peer, userAgent, token } = this.#call;
    const subject = this.#call.subject ?? this.#subject;
    const { address, port } = readPeer(peer);
    return {
      eventId: newId('auditEvent'),
      eventSource: this.#type.source,
      eventType: this.#type.name,
      eventTime: new Date().toISOString(),
      authentication:
        subject === undefined
          ? { authenticated: false }
          : {
              authenticated: true,
              subjectType: toSubjectType(subject.type),
              subjectId: subject.id,
              ...(token === undefined ? {} : { tokenInfo: tokenInfo(token, this.#parts.tokenIdOf(subject)) }),
            },
      authorization: { authorized: true },
      resourceMetadata: { path: [] },
      requestMetadata: {
        remoteAddress: address,
        ...(port === undefined ? {} : { remotePort: port }),
        ...(userAgent === undefined ? {} : { userAgent: maskedText(userAgent) }),
        requestId,
      },
      eventStatus: status,
      details: {},
      requestParameters,
    };
  }
}

/** The beginning, which is the same of all tokens or nearly so: enough to tell kinds of tokens apart. */
const tokenInfo = (token: string, id: string | undefined) => ({
  maskedIamToken: `${token.slice(0, 10).replace(/[^\w.-]/g, '_')}*****`,
  ...(id === undefined ? {} : { iamTokenId: id }),
});

/** A message may hold what has no form in JSON: an instant in the year 300,000. */
function readable(read: () => JsonObject): JsonObject {
  try {
    return read();
  } catch {
    return { unreadable: true };
  }
}

/** grpc-js writes no brackets: the port is what follows the last colon. */
export function readPeer(peer: string): { address: string; port: string | undefined } {
  const at = peer.lastIndexOf(':');
  if (at === -1) return { address: peer, port: undefined };
  return { address: peer.slice(0, at).replace(/^::ffff:(?=\d+\.)/, ''), port: peer.slice(at + 1) };
}

/** The text of INVALID_ARGUMENT quotes the request: then only the fields are named. */
function messageOf(error: DomainError): string {
  if (error.code !== 'INVALID_ARGUMENT') return maskedText(error.message);
  const fields = error.details.flatMap((detail) =>
    detail.kind === 'badRequest' ? detail.violations.map(({ field }) => field) : [],
  );
  const named = fields.slice(0, 16).map((field) => maskedText(field, 100));
  return named.length > 0 ? `Invalid arguments: ${named.join(', ')}` : 'Invalid arguments';
}

const text = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? storableId(value) : undefined);

/** Ids come from requests that may have been refused for them. */
const storableId = (id: string): string => maskedText(id, 100);

/** What the request says of the place. */
function placeOf({ kind, renamed }: EventType, parameters: JsonObject): Pick<Place, 'folderId' | 'resourceId' | 'resourceName'> {
  const idField = kind === undefined ? undefined : `${kind.key}Id`;
  // In a create that is the source.
  const isOwnId = idField !== undefined && !(idField in renamed);
  return {
    folderId: text(parameters['folderId']) ?? text(parameters['cloudId']),
    resourceId: isOwnId ? (text(parameters[idField]) ?? text(parameters['resourceId'])) : undefined,
    resourceName: text(parameters['name']),
  };
}

/** Access bindings stand in the parameters, and may be many; what they changed is told besides. The rest is where the event has its own place for it. */
const notTold: ReadonlySet<string> = new Set(['updateMask', 'folderId', 'resourceId', 'accessBindings', 'accessBindingDeltas']);

/** Details as the public events have them: id and name of the resource, then what the request says of it. */
function detailsOf({ kind, renamed }: EventType, parameters: JsonObject, place: Place): JsonObject {
  const { name, ...others } = parameters;
  const details: JsonObject = {};
  if (kind !== undefined) {
    if (place.resourceId !== undefined) details[`${kind.key}Id`] = place.resourceId;
    if (place.resourceName !== undefined) details[`${kind.key}Name`] = place.resourceName;
  } else if (name !== undefined) details['name'] = name;
  for (const [field, value] of Object.entries(others)) {
    if (notTold.has(field)) continue;
    const shown = renamed[field] ?? field;
    if (!(shown in details)) details[shown] = value;
  }
  return details;
}
