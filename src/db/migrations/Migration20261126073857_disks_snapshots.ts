import { Migration } from '@mikro-orm/migrations';

export class Migration20261126073857_disks_snapshots extends Migration {
  override name = 'Migration20261126073857_disks_snapshots';

  override up(): void | Promise<void> {
    this.addSql(
      `create table "disks" ("id" text collate "C" not null, "folder_id" text collate "C" not null, "created_at" timestamptz(3) not null, "name" text collate "C" not null, "description" text collate "C" not null, "labels" jsonb not null, "type_id" text collate "C" not null, "zone_id" text collate "C" not null, "size" bigint not null, "block_size" int not null, "product_ids" text[] not null, "status" text collate "C" not null, "source_image_id" text collate "C" not null, "source_snapshot_id" text collate "C" not null, "os" jsonb not null, "hardware_generation" jsonb not null, "placement_group_id" text collate "C" not null, "placement_group_partition" int not null, "layer_root" text collate "C" null, "machine_id" text collate "C" null, primary key ("id"));`,
    );
    this.addSql(`create index "disks_folder_index" on "disks" ("folder_id", "id");`);
    this.addSql(`create index "disks_machine_index" on "disks" ("machine_id") where machine_id is not null;`);
    this.addSql(`create unique index "disks_folder_name_unique" on "disks" ("folder_id", "name") where name <> '';`);

    this.addSql(
      `create table "snapshots" ("id" text collate "C" not null, "folder_id" text collate "C" not null, "created_at" timestamptz(3) not null, "name" text collate "C" not null, "description" text collate "C" not null, "labels" jsonb not null, "storage_size" bigint not null, "disk_size" bigint not null, "product_ids" text[] not null, "status" text collate "C" not null, "source_disk_id" text collate "C" not null, "os" jsonb not null, "hardware_generation" jsonb not null, "layer_root" text collate "C" null, primary key ("id"));`,
    );
    this.addSql(`create index "snapshots_folder_index" on "snapshots" ("folder_id", "id");`);
    this.addSql(`create index "snapshots_disk_index" on "snapshots" ("source_disk_id", "created_at", "id");`);
    this.addSql(`create unique index "snapshots_folder_name_unique" on "snapshots" ("folder_id", "name") where name <> '';`);
    this.addSql(`create unique index "snapshots_creating_unique" on "snapshots" ("source_disk_id") where status = 'CREATING';`);
  }

  override down(): void | Promise<void> {
    this.addSql(`drop table if exists "disks" cascade;`);
    this.addSql(`drop table if exists "snapshots" cascade;`);
  }
}
