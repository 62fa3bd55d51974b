// Who may do what: roles come from bindings on the resource, on its folder and on the folder's cloud, given to the subject or to a system
// subject that it belongs to.
//
// Calls read bindings from memory when they were read less than 2 s ago, so that a change made by another process counts everywhere
// within that time; a change made through this process counts from its answer on (`forget`). What asks inside a transaction reads the
// rows through that transaction: it is never decided by what is remembered, and takes no second connection of the pool.
//
// The operator's account, which the first start made, lies in an ordinary folder. What may be done to it comes from its own bindings and
// from the system cloud alone: whoever administers that folder would else act as the operator. He still sees it, as in a list.
import type { EntityManager } from '@mikro-orm/postgresql';
import { coalesce } from '../platform/coalesce.ts';
import { AccessBinding } from './access-binding.entity.ts';
import { activeAt } from './active-account.ts';
import type { Subject } from './call.ts';
import { Folder } from './hierarchy/folder.entity.ts';
import { Installation, installationId } from './installation.entity.ts';
import type { Permission } from './permissions.ts';
import { principalsOf } from './principals.ts';
import { type Resource, type ResourceKind, seeing } from './resource.ts';
import { permissionsOf } from './roles.ts';
import { ServiceAccount } from './service-account.entity.ts';
import { standardImagesFolderId } from './standard-images.ts';

export interface AccessRules {
  /** Whether a role of the subject allows it. `em`: the transaction to read through. */
  isAllowed(subject: Subject, permission: Permission, resource: Resource, em?: EntityManager): boolean | Promise<boolean>;
  /** Whether it may act at all now: an account that is there, not suspended and not expired. Users live elsewhere, and always may. Read anew. */
  isActive(subject: Subject): Promise<boolean>;
  /** Bindings have changed: what is remembered of them counts no more. */
  forget(): void;
}

export interface AccessControlOptions {
  fork: () => EntityManager;
  /** How long what was read may be used, ms. */
  maxAgeMs?: number;
  /** Milliseconds that never jump; for tests. */
  monotonicNow?: () => number;
}

/** A resource whose bindings are looked up. */
type Bound = Pick<Resource, 'kind' | 'id'>;

interface Question {
  bound: Bound;
  subject: Subject;
}

/** What a subject may do by the bindings of one resource alone. */
type Granted = readonly ReadonlySet<Permission>[];

interface Remembered<Value> {
  value: Value;
  readAtMs: number;
}

const accountKind: ResourceKind = 'iam.serviceAccount';
const defaultMaxAgeMs = 2_000;
const maxRemembered = 50_000;

export class AccessControl implements AccessRules {
  readonly #fork: () => EntityManager;
  /** The operator's account; undefined until it was asked for. It never changes. */
  #operatorId: string | undefined;
  readonly #maxAgeMs: number;
  readonly #now: () => number;
  /** Rises when bindings change: what was asked for before is not remembered. */
  #epoch = 0;
  /** The cloud of each folder; undefined: there is no such folder. */
  readonly #clouds = new Map<string, Remembered<string | undefined>>();
  readonly #granted = new Map<string, Remembered<Granted>>();
  readonly #loadCloud: (folderId: string) => Promise<string | undefined>;
  readonly #loadGranted: (question: Question) => Promise<Granted | undefined>;

  constructor({ fork, maxAgeMs = defaultMaxAgeMs, monotonicNow = () => performance.now() }: AccessControlOptions) {
    this.#fork = fork;
    this.#maxAgeMs = maxAgeMs;
    this.#now = monotonicNow;
    this.#loadCloud = coalesce((ids) => readClouds(fork(), ids), { maxBatch: 500 });
    this.#loadGranted = coalesce((questions) => readGranted(fork(), questions), { maxBatch: 200 });
  }

  isAllowed(subject: Subject, permission: Permission, resource: Resource, em?: EntityManager): boolean | Promise<boolean> {
    if (em !== undefined) return isAllowedByRows(em, subject, permission, resource);
    return this.#isAllowedByMemory(subject, permission, resource) ?? this.#read(subject, permission, resource);
  }

  async isActive({ id, type }: Subject): Promise<boolean> {
    if (type !== 'serviceAccount') return true;
    return (await this.#fork().count(ServiceAccount, { $and: [{ id }, activeAt(new Date())] })) > 0;
  }

  forget(): void {
    this.#epoch += 1;
    this.#clouds.clear();
    this.#granted.clear();
  }

  /** Undefined: not all of what decides is remembered. No waiting: the hot path. */
  #isAllowedByMemory(subject: Subject, permission: Permission, { kind, id, folderId }: Resource): boolean | undefined {
    if (kind === accountKind && (this.#operatorId === undefined || this.#operatorId === id)) return undefined;
    const folder = folderOf(kind, id, folderId);
    if (folder !== undefined) {
      if (this.#grants({ kind: 'resource-manager.folder', id: folder }, subject, permission) === true) return true;
      const cloud = this.#fresh(this.#clouds, folder);
      if (cloud?.value !== undefined) {
        if (this.#grants({ kind: 'resource-manager.cloud', id: cloud.value }, subject, permission) === true) return true;
      }
    }
    return undefined;
  }

  #grants(bound: Bound, subject: Subject, permission: Permission): boolean | undefined {
    const found = this.#fresh(this.#granted, keyOf(bound, subject));
    return found?.value.some((permissions) => permissions.has(permission));
  }

  async #read(subject: Subject, permission: Permission, resource: Resource): Promise<boolean> {
    if (resource.kind === accountKind) this.#operatorId ??= await readOperatorId(this.#fork());
    const chain = await chainFor(permission, resource, this.#operatorId, (folderId) => this.#cloudOf(folderId));
    const granted = await Promise.all(chain.map((bound) => this.#grantedBy(bound, subject)));
    return granted.flat().some((permissions) => permissions.has(permission));
  }

  async #cloudOf(folderId: string): Promise<string | undefined> {
    const known = this.#fresh(this.#clouds, folderId);
    if (known !== undefined) return known.value;
    const asked = { readAtMs: this.#now(), epoch: this.#epoch };
    return this.#remember(this.#clouds, folderId, await this.#loadCloud(folderId), asked);
  }

  async #grantedBy(bound: Bound, subject: Subject): Promise<Granted> {
    const key = keyOf(bound, subject);
    const known = this.#fresh(this.#granted, key);
    if (known !== undefined) return known.value;
    const asked = { readAtMs: this.#now(), epoch: this.#epoch };
    return this.#remember(this.#granted, key, (await this.#loadGranted({ bound, subject })) ?? [], asked);
  }

  #fresh<Value>(map: Map<string, Remembered<Value>>, key: string): Remembered<Value> | undefined {
    const found = map.get(key);
    return found !== undefined && this.#now() - found.readAtMs < this.#maxAgeMs ? found : undefined;
  }

  #remember<Value>(
    map: Map<string, Remembered<Value>>,
    key: string,
    value: Value,
    asked: { readAtMs: number; epoch: number },
  ): Value {
    if (asked.epoch !== this.#epoch) return value;
    if (map.size >= maxRemembered) {
      const [oldest] = map.keys();
      map.delete(oldest!);
    }
    // Read again, it is the youngest.
    map.delete(key);
    map.set(key, { value, readAtMs: asked.readAtMs });
    return value;
  }
}

async function isAllowedByRows(
  em: EntityManager,
  subject: Subject,
  permission: Permission,
  resource: Resource,
): Promise<boolean> {
  const operatorId = resource.kind === accountKind ? await readOperatorId(em) : undefined;
  const cloudOf = async (folderId: string) => (await readClouds(em, [folderId])).get(folderId);
  const chain = await chainFor(permission, resource, operatorId, cloudOf);
  const questions = chain.map((bound) => ({ bound, subject }));
  const granted = await readGranted(em, questions);
  return [...granted.values()].flat().some((permissions) => permissions.has(permission));
}

/** The folder whose roles count for the resource. */
function folderOf(kind: ResourceKind, id: string, folderId: string | undefined): string | undefined {
  return kind === 'resource-manager.folder' ? id : folderId;
}

/** Whose bindings decide; none when the folder is gone, or never was. */
async function chainFor(
  permission: Permission,
  { kind, id, folderId }: Resource,
  operatorId: string | undefined,
  cloudOf: (folderId: string) => Promise<string | undefined>,
): Promise<Bound[]> {
  const isOperator = kind === accountKind && id === operatorId;
  const above = isOperator ? chainOf({ kind, id }, undefined, await cloudOf(standardImagesFolderId)) : [];
  if (isOperator && permission !== seeing(kind)) return above;
  const folder = folderOf(kind, id, folderId);
  const cloudId = folder === undefined ? undefined : await cloudOf(folder);
  return folder !== undefined && cloudId === undefined ? above : [...above, ...chainOf({ kind, id }, folder, cloudId)];
}

/** Whose bindings count, the resource's own first. */
function chainOf(own: Bound, folderId: string | undefined, cloudId: string | undefined): Bound[] {
  const chain = [own];
  if (folderId !== undefined && own.kind !== 'resource-manager.folder')
    chain.push({ kind: 'resource-manager.folder', id: folderId });
  if (cloudId !== undefined) chain.push({ kind: 'resource-manager.cloud', id: cloudId });
  return chain;
}

/** One spelling for each pair: a subject's id may be any text, its type and the kind hold no slash. */
const keyOf = ({ kind, id }: Bound, { type, id: subjectId }: Subject): string =>
  `${type}/${subjectId.length}/${subjectId}/${kind}/${id}`;

async function readOperatorId(em: EntityManager): Promise<string | undefined> {
  const where = { id: installationId };
  const found = await em.findOne(Installation, where, { fields: ['serviceAccountId'], disableIdentityMap: true });
  return found?.serviceAccountId;
}

async function readClouds(em: EntityManager, folderIds: string[]): Promise<Map<string, string>> {
  const folders = await em.find(Folder, { id: { $in: folderIds } }, { fields: ['id', 'cloudId'], disableIdentityMap: true });
  return new Map(folders.map(({ id, cloudId }) => [id, cloudId]));
}

/** The bindings of all that is asked for in one query, and of them what each question is about. */
async function readGranted(em: EntityManager, questions: readonly Question[]): Promise<Map<Question, Granted>> {
  const kinds = new Set(questions.map(({ bound }) => bound.kind));
  const ids = new Set(questions.map(({ bound }) => bound.id));
  const subjects = new Set(questions.flatMap(({ subject }) => principalsOf(subject).map(({ id }) => id)));
  const rows = await em.find(
    AccessBinding,
    { resourceKind: { $in: [...kinds] }, resourceId: { $in: [...ids] }, subjectId: { $in: [...subjects] } },
    { disableIdentityMap: true },
  );
  return new Map(
    questions.map((question) => {
      const principals = principalsOf(question.subject);
      const own = rows.filter(
        ({ resourceKind, resourceId, subjectType, subjectId }) =>
          resourceKind === question.bound.kind &&
          resourceId === question.bound.id &&
          principals.some(({ type, id }) => type === subjectType && id === subjectId),
      );
      return [question, own.map(({ roleId }) => permissionsOf(roleId))];
    }),
  );
}
