import { Migration } from '@mikro-orm/migrations';

export class Migration20261126075252_scrub_passes extends Migration {
  override name = 'Migration20261126075252_scrub_passes';

  override up(): void | Promise<void> {
    this.addSql(
      `create table "scrub_passes" ("id" text collate "C" not null, "started_at" timestamptz(3) not null, "after_key" text collate "C" not null, "objects" bigint not null, "bytes" bigint not null, "finished_at" timestamptz(3) null, "summary" jsonb null, "summary_at" timestamptz(3) null, primary key ("id"));`,
    );
  }

  override down(): void | Promise<void> {
    this.addSql(`drop table if exists "scrub_passes" cascade;`);
  }
}
