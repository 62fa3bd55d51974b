import { Migration } from '@mikro-orm/migrations';

export class Migration20261126203546_attached_by extends Migration {
  override name = 'Migration20261126203546_attached_by';

  override up(): void | Promise<void> {
    this.addSql(`alter table "attach_sessions" add "attached_by" jsonb null;`);
  }

  override down(): void | Promise<void> {
    this.addSql(`alter table "attach_sessions" drop column "attached_by";`);
  }
}
