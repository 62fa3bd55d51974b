import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import { ServerSecret } from './server-secret.entity.ts';

/**
 * The secret of this name, made by `make` when there is none. Whichever process comes first wins; all of them answer the same value.
 * In a transaction the value is final when that commits.
 */
export async function serverSecret(em: EntityManager, name: string, make: () => string | Promise<string>): Promise<string> {
  return (await readSecret(em, name)) ?? (await addSecret(em, name, await make()));
}

/** Keeps `value` unless the name is taken; answers what is kept. */
export async function addSecret(em: EntityManager, name: string, value: string): Promise<string> {
  // Beside the statement's text, so that the value reaches no log.
  const sql = 'insert into server_secrets (name, value, created_at) values ($1, $2, $3) on conflict (name) do nothing';
  await query(em, sql, [name, value, new Date()]);
  const kept = await readSecret(em, name);
  if (kept === undefined) throw new Error(`secret ${name} vanished while it was written`);
  return kept;
}

/** All secrets whose names start with `prefix`, by name and byte. */
export async function readSecrets(
  em: EntityManager,
  prefix: string,
): Promise<{ name: string; value: string; createdAt: Date }[]> {
  const secrets = await em.find(
    ServerSecret,
    { name: { $gte: prefix, $lt: `${prefix}\u{10ffff}` } },
    { orderBy: { name: 'asc' }, disableIdentityMap: true },
  );
  return secrets.map(({ name, value, createdAt }) => ({ name, value, createdAt }));
}

/** Undefined when there is none of this name. */
export async function readSecret(em: EntityManager, name: string): Promise<string | undefined> {
  const secret = await em.findOne(ServerSecret, { name }, { disableIdentityMap: true });
  return secret?.value;
}
