// The file `admin-key.json`: an authorized key of the admin service account, in the form in which SDKs, Terraform and yc read one (facts,
// section 1.3). The private key stands as plain PEM: a line of text before it, as some tools write one, is more than some readers take.
import { createPublicKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { newId } from '../platform/ids.ts';
import { replaceFile } from '../platform/replace-file.ts';
import { AuthorizedKey } from './authorized-key.entity.ts';
import { makeKeyPair } from './key-pair.ts';

export interface KeyFile {
  id: string;
  service_account_id: string;
  created_at: string;
  key_algorithm: 'RSA_2048';
  /** SubjectPublicKeyInfo, PEM. */
  public_key: string;
  /** PKCS #8, PEM. */
  private_key: string;
}

/**
 * Leaves a good key of the account in `file` (mode 0600): the one that is there, when the database knows it, else a new one. The new
 * key is in the database before it is in the file: not to be called inside a transaction.
 */
export async function ensureAdminKey(em: EntityManager, serviceAccountId: string, file: string): Promise<void> {
  if (await isGood(em, serviceAccountId, file)) return;
  const { key, keyFile } = await makeKey(em, serviceAccountId);
  await em.persist(key).flush();
  await replaceFile(file, `${JSON.stringify(keyFile, undefined, 2)}\n`);
}

async function isGood(em: EntityManager, serviceAccountId: string, file: string): Promise<boolean> {
  const keyFile = await readKeyFile(file);
  if (keyFile === undefined || keyFile.service_account_id !== serviceAccountId) return false;
  const key = await em.findOne(AuthorizedKey, { id: keyFile.id, serviceAccountId });
  return key !== null && key.publicKey === publicHalf(keyFile.private_key);
}

/** `undefined` for a file that is not there or not a key file. @throws Error when it cannot be read. */
async function readKeyFile(file: string): Promise<KeyFile | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const keyFile = JSON.parse(text) as Partial<Record<keyof KeyFile, unknown>> | null;
    const isKeyFile = [keyFile?.id, keyFile?.service_account_id, keyFile?.private_key].every(
      (field) => typeof field === 'string',
    );
    return isKeyFile ? (keyFile as KeyFile) : undefined;
  } catch {
    return undefined;
  }
}

function publicHalf(privateKey: string): string | undefined {
  try {
    return createPublicKey(privateKey).export({ type: 'spki', format: 'pem' }) as string;
  } catch {
    return undefined;
  }
}

async function makeKey(em: EntityManager, serviceAccountId: string): Promise<{ key: AuthorizedKey; keyFile: KeyFile }> {
  const pair = await makeKeyPair('RSA_2048');
  const key = em.create(AuthorizedKey, {
    id: newId('key'),
    serviceAccountId,
    createdAt: new Date(),
    description: 'Key file of the first start',
    keyAlgorithm: 'RSA_2048',
    publicKey: pair.publicKey,
  });
  const keyFile: KeyFile = {
    id: key.id,
    service_account_id: serviceAccountId,
    created_at: key.createdAt.toISOString(),
    key_algorithm: 'RSA_2048',
    public_key: pair.publicKey,
    private_key: pair.privateKey,
  };
  return { key, keyFile };
}
