import { Migration } from '@mikro-orm/migrations';

export class Migration20261126074428_quota_limits extends Migration {
  override name = 'Migration20261126074428_quota_limits';

  override up(): void | Promise<void> {
    this.addSql(
      `create table "quota_limits" ("cloud_id" text collate "C" not null, "quota_id" text collate "C" not null, "value" bigint null, "modified_at" timestamptz(3) not null, primary key ("cloud_id", "quota_id"));`,
    );
  }

  override down(): void | Promise<void> {
    this.addSql(`drop table if exists "quota_limits" cascade;`);
  }
}
