import { Key as KeyMessage, Key_Algorithm } from '../../generated/yandex/cloud/iam/v1/key.ts';
import type { AuthorizedKey, KeyAlgorithm } from '../iam/authorized-key.entity.ts';
import { type PackedMessage, pack } from '../operations/pack.ts';

export const toKeyMessage = (key: AuthorizedKey): KeyMessage => ({
  id: key.id,
  subject: { $case: 'serviceAccountId', value: key.serviceAccountId },
  createdAt: key.createdAt,
  description: key.description,
  keyAlgorithm: Key_Algorithm[key.keyAlgorithm],
  publicKey: key.publicKey,
  lastUsedAt: key.lastUsedAt ?? undefined,
});

/** What a request asks for; unset means RSA_2048. */
export const fromAlgorithmMessage = (algorithm: Key_Algorithm): KeyAlgorithm =>
  algorithm === Key_Algorithm.RSA_4096 ? 'RSA_4096' : 'RSA_2048';

/** The key as an operation's response. */
export const packKey = (key: AuthorizedKey): PackedMessage => pack(KeyMessage, toKeyMessage(key));
