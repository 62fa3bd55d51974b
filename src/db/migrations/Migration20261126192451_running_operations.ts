import { Migration } from '@mikro-orm/migrations';

export class Migration20261126192451_running_operations extends Migration {
  override name = 'Migration20261126192451_running_operations';

  override up(): void | Promise<void> {
    this.addSql(`alter table "jobs" add "counted_folder_id" text collate "C" null;`);
    this.addSql(`create index "jobs_counted_folder_index" on "jobs" ("counted_folder_id") where counted_folder_id is not null;`);
  }

  override down(): void | Promise<void> {
    this.addSql(`drop index "jobs_counted_folder_index";`);
    this.addSql(`alter table "jobs" drop column "counted_folder_id";`);
  }
}
