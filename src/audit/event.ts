// The shape of an event, as the public service writes it (facts, section 8), and its one line of JSON.
import type { Json, JsonObject } from './masking.ts';

export const eventStatuses = ['STARTED', 'DONE', 'ERROR', 'CANCELLED'] as const;
export type EventStatus = (typeof eventStatuses)[number];

export interface PathStep {
  resourceType: string;
  resourceId: string;
  resourceName?: string | null;
}

export interface AuditEventJson {
  eventId: string;
  eventSource: string;
  eventType: string;
  /** ISO 8601, UTC. */
  eventTime: string;
  authentication: {
    authenticated: boolean;
    subjectType?: string;
    subjectId?: string;
    subjectName?: string | null;
    tokenInfo?: { maskedIamToken?: string; iamTokenId?: string };
  };
  authorization: { authorized: boolean };
  /** From the cloud to what was changed. */
  resourceMetadata: { path: PathStep[] };
  requestMetadata: { remoteAddress?: string; remotePort?: string; userAgent?: string; requestId?: string };
  eventStatus: EventStatus;
  error?: { code: number; message: string };
  details: JsonObject;
  requestParameters: JsonObject;
  response?: Json;
}

/** The database keeps no order of names; people read these lines. What is not named here comes last, as it is. */
const order =
  `eventId eventSource eventType eventTime authentication authorization resourceMetadata requestMetadata eventStatus error
  details requestParameters response authenticated subjectType subjectId subjectName tokenInfo maskedIamToken iamTokenId resourceType
  resourceId resourceName remoteAddress remotePort userAgent requestId code message`.split(/\s+/);

const ranks: ReadonlyMap<string, number> = new Map(order.map((name, rank) => [name, rank]));
const rankOf = (name: string): number => ranks.get(name) ?? order.length;

/** One line, without its end. */
export const toLine = (event: AuditEventJson): string =>
  JSON.stringify(event, (_name, value: unknown) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
    return Object.fromEntries(Object.entries(value).sort(([a], [b]) => rankOf(a) - rankOf(b)));
  });

/** Types of subjects in events, by those of access bindings. */
const subjectTypes: Readonly<Record<string, string>> = {
  serviceAccount: 'SERVICE_ACCOUNT',
  userAccount: 'YANDEX_PASSPORT_USER_ACCOUNT',
  federatedUser: 'FEDERATED_USER_ACCOUNT',
};

export const toSubjectType = (type: string): string => subjectTypes[type] ?? 'SUBJECT_TYPE_UNSPECIFIED';
