import { Migration } from '@mikro-orm/migrations';

export class Migration20261126193210_identity_times extends Migration {
  override name = 'Migration20261126193210_identity_times';

  override up(): void | Promise<void> {
    this.addSql(`alter table "authorized_keys" add "last_used_at" timestamptz(3) null;`);

    this.addSql(
      `alter table "service_accounts" add "expires_at" timestamptz(3) null, add "suspended_until" timestamptz(3) null, add "last_authenticated_at" timestamptz(3) null;`,
    );
  }

  override down(): void | Promise<void> {
    this.addSql(`alter table "authorized_keys" drop column "last_used_at";`);

    this.addSql(
      `alter table "service_accounts" drop column "expires_at", drop column "suspended_until", drop column "last_authenticated_at";`,
    );
  }
}
