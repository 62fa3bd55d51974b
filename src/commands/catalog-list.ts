import { readConfig } from '../config.ts';
import { defineCommand } from './command.ts';
import { findServiceIfAny } from './running-service.ts';

export const catalogOption = {
  type: 'string',
  value: '<file>',
  help: 'a JSON file with more entries and mirrors; OBRAZ_CATALOG_FILE when not given',
} as const;

const notTried = 'not tried';

export const catalogList = defineCommand({
  summary: 'list the cloud images that can be imported, and what is in standard-images of them',
  options: { catalog: catalogOption },
  async run({ environment, options }) {
    const config = readConfig(environment);
    const { readCatalog } = await import('../image-catalog/catalog.ts');
    const entries = await readCatalog(options.catalog ?? config.catalogFile);
    const service = await findServiceIfAny(config);
    const newest = service && (await (await import('./catalog-images.ts')).newestImages(service, entries));
    const lines = entries.map(({ family, name, tried }) => {
      const image = newest === undefined ? '?' : (newest.get(family) ?? '-');
      return [family, name, image, tried ? '' : notTried];
    });
    process.stdout.write(table([['FAMILY', 'NAME', 'NEWEST IN STANDARD-IMAGES', ''], ...lines]));
    if (newest === undefined) process.stderr.write('The service does not run: what is in standard-images is not known.\n');
    if (entries.some(({ tried }) => !tried)) {
      process.stderr.write(
        `"${notTried}": from the distribution's published layout; no import of it was seen yet (docs/catalog.md).\n`,
      );
    }
  },
});

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) => row.map((cell, column) => cell.padEnd(widths[column]!)).join('  ');
  return rows.map((row) => `${line(row).trimEnd()}\n`).join('');
}
