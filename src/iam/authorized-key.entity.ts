// The public half of a service account's authorized key. The private half signs JSON Web Tokens and is never kept here.
import { defineEntity, p } from '@mikro-orm/core';
import { instant, text } from '../db/columns.ts';

export type KeyAlgorithm = 'RSA_2048' | 'RSA_4096';

const AuthorizedKeySchema = defineEntity({
  name: 'AuthorizedKey',
  tableName: 'authorized_keys',
  properties: {
    /** The `kid` of the tokens that it signs. */
    id: text().primary(),
    serviceAccountId: text(),
    createdAt: instant(),
    description: text(),
    keyAlgorithm: text().$type<KeyAlgorithm>(),
    /** SubjectPublicKeyInfo as PEM. */
    publicKey: p.text(),
    /** About when it last signed something that was accepted. */
    lastUsedAt: instant().nullable(),
  },
  indexes: [{ name: 'authorized_keys_account_index', properties: ['serviceAccountId', 'id'] }],
});

export class AuthorizedKey extends AuthorizedKeySchema.class {}
AuthorizedKeySchema.setClass(AuthorizedKey);
export { AuthorizedKeySchema };
