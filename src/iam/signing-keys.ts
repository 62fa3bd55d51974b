// The Ed25519 keys that sign tokens: server secrets `token-signing-key/<number>`, shared by all processes through the database. The
// newest signs, older ones still verify what they signed. A fresh key waits until every process has read it before it signs.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import type { EntityManager } from '@mikro-orm/postgresql';
import { addSecret, readSecrets } from './server-secrets.ts';

const prefix = 'token-signing-key/';

/** Longer than processes take to read new keys (they look every 2 s: tokens.ts). */
const ripeningMs = 10_000;

interface SigningKey {
  id: string;
  number: number;
  privateKey: KeyObject;
  publicKey: KeyObject;
  createdAt: Date;
}

export class SigningKeys {
  readonly #keys = new Map<string, SigningKey>();

  /** Reads the keys; makes the first one when there is none. */
  static async load(em: EntityManager): Promise<SigningKeys> {
    const keys = new SigningKeys();
    await keys.refresh(em);
    if (keys.#keys.size === 0) {
      await addSecret(em, `${prefix}1`, newKeyPem());
      await keys.refresh(em);
    }
    return keys;
  }

  /** Takes up keys that were added, and drops those that were removed. */
  async refresh(em: EntityManager): Promise<void> {
    const secrets = await readSecrets(em, prefix);
    const ids = new Set(secrets.map(({ name }) => name.slice(prefix.length)));
    for (const id of this.#keys.keys()) if (!ids.has(id)) this.#keys.delete(id);
    for (const { name, value, createdAt } of secrets) {
      const id = name.slice(prefix.length);
      if (this.#keys.has(id)) continue;
      const privateKey = createPrivateKey(value);
      this.#keys.set(id, { id, number: Number(id), privateKey, publicKey: createPublicKey(privateKey), createdAt });
    }
  }

  /** The newest key that is ripe, or the oldest while none is. */
  current(now: number): SigningKey {
    const newestFirst = [...this.#keys.values()].sort((a, b) => b.number - a.number);
    const key = newestFirst.find(({ createdAt }) => createdAt.getTime() + ripeningMs <= now) ?? newestFirst.at(-1);
    if (key === undefined) throw new Error('there is no key to sign tokens with');
    return key;
  }

  publicKey(id: string): KeyObject | undefined {
    return this.#keys.get(id)?.publicKey;
  }
}

/** Adds the next signing key. Tokens of the older ones stay good. */
export async function addSigningKey(em: EntityManager): Promise<void> {
  const numbers = (await readSecrets(em, prefix)).map(({ name }) => Number(name.slice(prefix.length)));
  await addSecret(em, `${prefix}${Math.max(0, ...numbers) + 1}`, newKeyPem());
}

const newKeyPem = (): string => generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
