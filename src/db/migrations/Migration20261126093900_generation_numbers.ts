import { Migration } from '@mikro-orm/migrations';

export class Migration20261126093900_generation_numbers extends Migration {
  override name = 'Migration20261126093900_generation_numbers';

  override up(): void | Promise<void> {
    this.addSql(`alter table "disks" add "last_generation" int not null default 0;`);
  }

  override down(): void | Promise<void> {
    this.addSql(`alter table "disks" drop column "last_generation";`);
  }
}
