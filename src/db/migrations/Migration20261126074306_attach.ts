import { Migration } from '@mikro-orm/migrations';

export class Migration20261126074306_attach extends Migration {
  override name = 'Migration20261126074306_attach';

  override up(): void | Promise<void> {
    this.addSql(
      `create table "attach_sessions" ("id" text collate "C" not null, "machine_id" text collate "C" not null, "resource_id" text collate "C" not null, "mode" text collate "C" not null, "subject_id" text collate "C" not null, "peer" text collate "C" not null, "created_at" timestamptz(3) not null, "lease_until" timestamptz(3) not null, "base_root" text collate "C" null, primary key ("id"));`,
    );
    this.addSql(`create index "attach_sessions_resource_index" on "attach_sessions" ("resource_id");`);
    this.addSql(`create index "attach_sessions_machine_index" on "attach_sessions" ("machine_id");`);
    this.addSql(
      `create unique index "attach_sessions_writer_unique" on "attach_sessions" ("resource_id") where mode = 'READ_WRITE';`,
    );

    this.addSql(
      `create table "disk_generations" ("disk_id" text collate "C" not null, "generation" int not null, "state" text collate "C" not null, "machine_id" text collate "C" not null, "writer_id" text collate "C" not null, "length_bytes" bigint null, "created_at" timestamptz(3) not null, primary key ("disk_id", "generation"));`,
    );
    this.addSql(`create index "disk_generations_machine_index" on "disk_generations" ("machine_id");`);
    this.addSql(`create unique index "disk_generations_open_unique" on "disk_generations" ("disk_id") where state = 'OPEN';`);
  }

  override down(): void | Promise<void> {
    this.addSql(`drop table if exists "attach_sessions" cascade;`);
    this.addSql(`drop table if exists "disk_generations" cascade;`);
  }
}
