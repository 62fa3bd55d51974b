import { Migration } from '@mikro-orm/migrations';

export class Migration20261123224855_initial extends Migration {
  override name = 'Migration20261123224855_initial';

  override up(): void | Promise<void> {
    this.addSql(
      `create table "access_bindings" ("resource_kind" text collate "C" not null, "resource_id" text collate "C" not null, "role_id" text collate "C" not null, "subject_type" text collate "C" not null, "subject_id" text collate "C" not null, "position" int not null, primary key ("resource_kind", "resource_id", "role_id", "subject_type", "subject_id"));`,
    );
    this.addSql(`create index "access_bindings_subject_index" on "access_bindings" ("subject_id", "subject_type");`);

    this.addSql(
      `create table "authorized_keys" ("id" text collate "C" not null, "service_account_id" text collate "C" not null, "created_at" timestamptz(3) not null, "description" text collate "C" not null, "key_algorithm" text collate "C" not null, "public_key" text not null, primary key ("id"));`,
    );
    this.addSql(`create index "authorized_keys_account_index" on "authorized_keys" ("service_account_id", "id");`);

    this.addSql(
      `create table "clouds" ("id" text collate "C" not null, "organization_id" text collate "C" not null, "created_at" timestamptz(3) not null, "name" text collate "C" not null, "description" text collate "C" not null, "labels" jsonb not null, "system" boolean not null, primary key ("id"));`,
    );
    this.addSql(`alter table "clouds" add constraint "clouds_name_unique" unique ("organization_id", "name");`);

    this.addSql(
      `create table "condemned_objects" ("key" text collate "C" not null, "condemnation" text collate "C" not null, "condemned_at" timestamptz(3) not null, "writers" text[] null, "claimed_by" int null, "orphaned_at" timestamptz(3) null, primary key ("key"));`,
    );

    this.addSql(
      `create table "folders" ("id" text collate "C" not null, "cloud_id" text collate "C" not null, "created_at" timestamptz(3) not null, "name" text collate "C" not null, "description" text collate "C" not null, "labels" jsonb not null, "status" text collate "C" not null, primary key ("id"));`,
    );
    this.addSql(`create index "folders_cloud_index" on "folders" ("cloud_id", "id");`);
    this.addSql(`alter table "folders" add constraint "folders_name_unique" unique ("cloud_id", "name");`);

    this.addSql(
      `create table "idempotency_keys" ("subject_id" text collate "C" not null, "method" text collate "C" not null, "key" text collate "C" not null, "request_hash" text collate "C" not null, "operation_id" text collate "C" not null, "created_at" timestamptz(3) not null default now(), primary key ("subject_id", "method", "key"));`,
    );
    this.addSql(`create index "idempotency_keys_created_index" on "idempotency_keys" ("created_at");`);

    this.addSql(
      `create table "images" ("id" text collate "C" not null, "folder_id" text collate "C" not null, "created_at" timestamptz(3) not null, "name" text collate "C" not null, "description" text collate "C" not null, "labels" jsonb not null, "family" text collate "C" not null, "size" bigint not null, "storage_size" bigint not null, "min_disk_size" bigint not null, "product_ids" text[] not null, "status" text collate "C" not null, "os" jsonb not null, "hardware_generation" jsonb not null, "pooled" boolean not null, "layer_root" text collate "C" null, primary key ("id"));`,
    );
    this.addSql(`create index "images_folder_index" on "images" ("folder_id", "id");`);
    this.addSql(`create index "images_family_index" on "images" ("folder_id", "family", "created_at", "id") where family <> '';`);
    this.addSql(`create unique index "images_folder_name_unique" on "images" ("folder_id", "name") where name <> '';`);

    this.addSql(
      `create table "installation" ("id" text collate "C" not null, "organization_id" text collate "C" not null, "cloud_id" text collate "C" not null, "folder_id" text collate "C" not null, "service_account_id" text collate "C" not null, "created_at" timestamptz(3) not null, primary key ("id"));`,
    );

    this.addSql(
      `create table "jobs" ("operation_id" text collate "C" not null, "kind" text collate "C" not null, "payload" jsonb not null, "checkpoint" jsonb null, "pinned_roots" text[] not null default '{}', "attempt" int not null default 0, "stalled_attempts" int not null default 0, "run_at" timestamptz(3) not null, "lease_until" timestamptz(3) null, "lease_owner" text collate "C" null, "cancel_requested" boolean not null default false, "after_operation_id" text collate "C" null, "last_error" text collate "C" null, primary key ("operation_id"));`,
    );
    this.addSql(`create index "jobs_run_at_index" on "jobs" ("run_at");`);
    this.addSql(`create index "jobs_cancel_requested_index" on "jobs" ("operation_id") where cancel_requested;`);
    this.addSql(
      `create index "jobs_after_operation_index" on "jobs" ("after_operation_id") where after_operation_id is not null;`,
    );

    this.addSql(
      `create table "operations" ("id" text collate "C" not null, "folder_id" text collate "C" not null, "resource_id" text collate "C" not null, "description" text collate "C" not null, "created_at" timestamptz(3) not null, "created_by" text collate "C" not null, "modified_at" timestamptz(3) not null, "metadata_type" text collate "C" not null, "metadata" bytea not null, "done" boolean not null, "error" bytea null, "response_type" text collate "C" null, "response" bytea null, "cancellable" boolean not null, "cancel_requested_at" timestamptz(3) null, "bytes_done" bigint not null, "bytes_total" bigint not null, "bytes_per_second" bigint not null, "phase" text collate "C" not null, primary key ("id"));`,
    );
    this.addSql(`create index "operations_resource_index" on "operations" ("resource_id", "created_at", "id");`);
    this.addSql(`create index "operations_created_index" on "operations" ("created_at");`);

    this.addSql(
      `create table "revoked_tokens" ("id" text collate "C" not null, "revoked_at" timestamptz(3) not null default now(), "expires_at" timestamptz(3) not null, primary key ("id"));`,
    );
    this.addSql(`create index "revoked_tokens_revoked_index" on "revoked_tokens" ("revoked_at");`);
    this.addSql(`create index "revoked_tokens_expires_index" on "revoked_tokens" ("expires_at");`);

    this.addSql(
      `create table "server_secrets" ("name" text collate "C" not null, "value" text not null, "created_at" timestamptz(3) not null, primary key ("name"));`,
    );

    this.addSql(
      `create table "service_accounts" ("id" text collate "C" not null, "folder_id" text collate "C" not null, "created_at" timestamptz(3) not null, "name" text collate "C" not null, "description" text collate "C" not null, "labels" jsonb not null, "status" text collate "C" not null, primary key ("id"));`,
    );
    this.addSql(`create index "service_accounts_folder_index" on "service_accounts" ("folder_id", "id");`);
    this.addSql(`alter table "service_accounts" add constraint "service_accounts_name_unique" unique ("folder_id", "name");`);
  }

  override down(): void | Promise<void> {
    this.addSql(`drop table if exists "access_bindings" cascade;`);
    this.addSql(`drop table if exists "authorized_keys" cascade;`);
    this.addSql(`drop table if exists "clouds" cascade;`);
    this.addSql(`drop table if exists "condemned_objects" cascade;`);
    this.addSql(`drop table if exists "folders" cascade;`);
    this.addSql(`drop table if exists "idempotency_keys" cascade;`);
    this.addSql(`drop table if exists "images" cascade;`);
    this.addSql(`drop table if exists "installation" cascade;`);
    this.addSql(`drop table if exists "jobs" cascade;`);
    this.addSql(`drop table if exists "operations" cascade;`);
    this.addSql(`drop table if exists "revoked_tokens" cascade;`);
    this.addSql(`drop table if exists "server_secrets" cascade;`);
    this.addSql(`drop table if exists "service_accounts" cascade;`);
  }
}
