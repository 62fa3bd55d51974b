// A token that was ended before its time. The row goes a day after the token would have expired by itself.
import { defineEntity, p } from '@mikro-orm/core';
import { instant, text } from '../db/columns.ts';

const RevokedTokenSchema = defineEntity({
  name: 'RevokedToken',
  tableName: 'revoked_tokens',
  properties: {
    /** The id inside the token, not the token. */
    id: text().primary(),
    /** By the database's clock, which all processes share. */
    revokedAt: p.datetime(3).defaultRaw('now()'),
    expiresAt: instant(),
  },
  indexes: [
    { name: 'revoked_tokens_revoked_index', properties: ['revokedAt'] },
    { name: 'revoked_tokens_expires_index', properties: ['expiresAt'] },
  ],
});

export class RevokedToken extends RevokedTokenSchema.class {}
RevokedTokenSchema.setClass(RevokedToken);
export { RevokedTokenSchema };
