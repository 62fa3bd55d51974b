import { Migration } from '@mikro-orm/migrations';

export class Migration20261126191611_access extends Migration {
  override name = 'Migration20261126191611_access';

  override up(): void | Promise<void> {
    this.addSql(`alter table "jobs" add "authority" jsonb null;`);

    // Operations that are there are all of compute, whose kinds are alike in what this decides.
    this.addSql(`alter table "operations" add "resource_kind" text collate "C" not null default 'compute.image';`);
    this.addSql(`alter table "operations" alter column "resource_kind" drop default;`);
  }

  override down(): void | Promise<void> {
    this.addSql(`alter table "jobs" drop column "authority";`);

    this.addSql(`alter table "operations" drop column "resource_kind";`);
  }
}
