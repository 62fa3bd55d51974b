import { type Config, readConfig } from '../config.ts';
import type { SourceAccess } from '../image-catalog/locate-image.ts';
import { StartError } from '../platform/start-error.ts';
import { catalogOption } from './catalog-list.ts';
import { defineCommand, untilInterrupted } from './command.ts';
import { ProgressLine } from './progress-line.ts';
import { findServiceIfAny } from './running-service.ts';

export const catalogImport = defineCommand({
  summary: 'import the newest published build of a family, and print the image id',
  description: `The service has to run, with the settings that this command has, too: the checksum file of the distribution is fetched here, under
the rules for imports, and the service imports the image, which must match it.

The image goes to standard-images, where every authenticated caller can use it, optimized, as <family>-v<day of the build>. A build that is
there already is not imported again. With --folder it goes to another folder, and is not optimized there.

Ctrl-C cancels the import that the command began; with --no-wait it goes on by itself.`,
  operands: ['family'],
  options: {
    catalog: catalogOption,
    folder: { type: 'string', value: '<id>', help: 'another folder than standard-images' },
    'no-wait': { type: 'boolean', help: 'print the id and end as soon as the import has begun' },
  },
  async run({ environment, operands, options }) {
    const config = readConfig(environment);
    const [{ readCatalog, requireEntry }, { locateImage }] = await Promise.all([
      import('../image-catalog/catalog.ts'),
      import('../image-catalog/locate-image.ts'),
    ]);
    const entry = requireEntry(await readCatalog(options.catalog ?? config.catalogFile), operands[0]!);
    const service = await findServiceIfAny(config);
    if (service === undefined) {
      throw new StartError(`No service runs on the data folder ${config.dataDirectory}. Start it first: npm start`);
    }
    const signal = untilInterrupted();
    const { importFromCatalog } = await import('./catalog-images.ts');
    const located = await locateImage(entry, await sourceAccess(config, signal));
    using line = new ProgressLine();
    const wait = options['no-wait'] !== true;
    const image = await importFromCatalog(service, { entry, located, folderId: options.folder, wait, signal, line });
    line[Symbol.dispose]();
    process.stderr.write(`${image.text}\n`);
    process.stdout.write(`${image.id}\n`);
  },
});

async function sourceAccess(config: Config, signal: AbortSignal): Promise<SourceAccess> {
  const [{ UrlPolicy }, { readAuthorities, readImportRules, readProxyRules }] = await Promise.all([
    import('../sources/url-policy.ts'),
    import('../import-settings.ts'),
  ]);
  const certificateAuthorities = await readAuthorities(config);
  return {
    policy: new UrlPolicy(readImportRules(config)),
    options: { signal, certificateAuthorities, proxies: readProxyRules(config) },
  };
}
