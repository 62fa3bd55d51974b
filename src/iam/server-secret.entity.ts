// Secrets of the service itself: keys that sign tokens, the built-in certificate authority. All processes share them through the
// database. Read and written by server-secrets.ts alone; never logged, never in an answer.
import { defineEntity, p } from '@mikro-orm/core';
import { instant, text } from '../db/columns.ts';

const ServerSecretSchema = defineEntity({
  name: 'ServerSecret',
  tableName: 'server_secrets',
  properties: {
    name: text().primary(),
    /** PEM or another text. */
    value: p.text(),
    createdAt: instant(),
  },
});

export class ServerSecret extends ServerSecretSchema.class {}
ServerSecretSchema.setClass(ServerSecret);
export { ServerSecretSchema };
