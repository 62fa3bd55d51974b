import { Migration } from '@mikro-orm/migrations';

export class Migration20261126192854_audit extends Migration {
  override name = 'Migration20261126192854_audit';

  override up(): void | Promise<void> {
    this.addSql(
      `create table "audit_events" ("id" text collate "C" not null, "occurred_at" timestamptz(3) not null, "position" bigint null, "event" jsonb not null, primary key ("id"));`,
    );
    this.addSql(`create index "audit_events_occurred_index" on "audit_events" ("occurred_at");`);
    this.addSql(`create index "audit_events_unnumbered_index" on "audit_events" ("occurred_at", "id") where position is null;`);
    this.addSql(`alter table "audit_events" add constraint "audit_events_position_unique" unique ("position");`);

    this.addSql(`alter table "jobs" add "audit" jsonb null;`);
  }

  override down(): void | Promise<void> {
    this.addSql(`drop table if exists "audit_events" cascade;`);

    this.addSql(`alter table "jobs" drop column "audit";`);
  }
}
