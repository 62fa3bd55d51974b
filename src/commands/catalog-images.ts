// Images of the catalog on the running service: which build is there already, under which name a new one goes, and its import. A build is
// known by its digest, in the label `source-digest`. Two imports of one build at a time make one image: the second finds the first one's
// image, or that its name is taken, and looks again.
import { type ServiceError, status as grpcStatus } from '@grpc/grpc-js';
import { type Progress, ProgressServiceClient } from '../../generated/obraz/v1/progress.ts';
import { type Image, Image_Status, Os_Type } from '../../generated/yandex/cloud/compute/v1/image.ts';
import {
  CreateImageMetadata,
  CreateImageRequest,
  ImageServiceClient,
} from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import type { Operation } from '../../generated/yandex/cloud/operation/operation.ts';
import { OperationServiceClient } from '../../generated/yandex/cloud/operation/operation_service.ts';
import { standardImagesFolderId } from '../iam/standard-images.ts';
import type { CatalogEntry } from '../image-catalog/catalog.ts';
import type { LocatedImage } from '../image-catalog/locate-image.ts';
import { StartError } from '../platform/start-error.ts';
import type { ProgressLine } from './progress-line.ts';
import { readStream, type RunningService } from './running-service.ts';

export interface CatalogImport {
  entry: CatalogEntry;
  located: LocatedImage;
  /** Default: standard-images. */
  folderId: string | undefined;
  wait: boolean;
  signal: AbortSignal;
  line: ProgressLine;
}

/** An image that is there now, or that is being imported, and what has happened, in words. */
export interface ImportedImage {
  id: string;
  text: string;
}

const GiB = 1024n ** 3n;
const digestLabel = 'source-digest';
/** Of a label: a SHA-512 does not fit whole, and 192 bits of a digest are none other's. */
const shownDigits = 48;
/** Builds of one family and day, or of another origin under its name. */
const maxNames = 9;

/** Names of the newest READY images in standard-images, by family. @throws StartError. */
export const newestImages = (service: RunningService, entries: readonly CatalogEntry[]): Promise<Map<string, string>> =>
  service.with(ImageServiceClient, async (client) => {
    const newest = new Map<string, string>();
    for (const { family } of entries) {
      try {
        const image = await service.call(client, client.getLatestByFamily, { folderId: standardImagesFolderId, family });
        newest.set(family, image.name === '' ? image.id : image.name);
      } catch (error) {
        if (codeOf(error) !== grpcStatus.NOT_FOUND) throw error;
      }
    }
    return newest;
  });

/** @throws StartError when the service refuses it or it fails; the signal's reason, after the import was cancelled. */
export const importFromCatalog = (service: RunningService, wanted: CatalogImport): Promise<ImportedImage> =>
  service.with(ImageServiceClient, async (client) => {
    const folderId = wanted.folderId ?? standardImagesFolderId;
    const digest = `${wanted.located.algorithm}-${wanted.located.hex.slice(0, shownDigits)}`;
    for (const name of names(wanted)) {
      wanted.signal.throwIfAborted();
      const there = (await imagesOf(service, client, folderId, wanted.entry.family)).find(
        (image) => image.labels[digestLabel] === digest && image.status !== Image_Status.DELETING,
      );
      if (there !== undefined) return alreadyThere(service, client, there, wanted);
      const request = newImage({ ...wanted, folderId }, name, digest);
      let operation: Operation;
      try {
        operation = await service.call(client, client.create, request);
      } catch (error) {
        if (codeOf(error) !== grpcStatus.ALREADY_EXISTS) throw error;
        continue;
      }
      const id = CreateImageMetadata.decode(operation.metadata!.value).imageId;
      if (!wanted.wait) return { id, text: `${name} is being imported by operation ${operation.id}` };
      await follow(service, operation.id, name, wanted, 'ours');
      return { id, text: `${name} is imported` };
    }
    throw new StartError(`The names of this build, ${[...names(wanted)].join(', ')}, are all taken in folder ${folderId}`);
  });

/** `debian-12-v20260131`, `debian-12-v20260131-2`, … */
function* names({ entry, located }: Pick<CatalogImport, 'entry' | 'located'>): Generator<string> {
  const first = `${entry.family}-v${located.day.toISOString().slice(0, 10).replaceAll('-', '')}`;
  for (let number = 1; number <= maxNames; number += 1) yield number === 1 ? first : `${first}-${number}`;
}

async function imagesOf(service: RunningService, client: ImageServiceClient, folderId: string, family: string): Promise<Image[]> {
  const request = { folderId, pageSize: 1000n, filter: `family = "${family}"`, orderBy: '' };
  const images: Image[] = [];
  let pageToken = '';
  do {
    const page = await service.call(client, client.list, { ...request, pageToken });
    images.push(...page.images);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return images;
}

const newImage = (
  { entry, located, folderId }: CatalogImport & { folderId: string },
  name: string,
  digest: string,
): CreateImageRequest => ({
  ...CreateImageRequest.fromPartial({}),
  folderId,
  name,
  family: entry.family,
  description: `${entry.name}. ${entry.description}. From ${located.url}`.slice(0, 256),
  labels: { [digestLabel]: digest },
  minDiskSize: BigInt(entry.minDiskGiB) * GiB,
  source: { $case: 'uri', value: `${located.url}#${located.algorithm}=${located.hex}` },
  os: { type: entry.os === 'linux' ? Os_Type.LINUX : Os_Type.WINDOWS, nvidia: undefined },
  // Elsewhere optimized images are limited, by default to none.
  pooled: folderId === standardImagesFolderId,
});

async function alreadyThere(
  service: RunningService,
  client: ImageServiceClient,
  { id, name, status }: Image,
  wanted: CatalogImport,
): Promise<ImportedImage> {
  if (status === Image_Status.READY) return { id, text: `${name} is this build: nothing to import` };
  const request = { imageId: id, pageSize: 10n, pageToken: '' };
  const { operations } = await service.call(client, client.listOperations, request);
  const running = operations.find(({ done }) => !done);
  if (!wanted.wait) return { id, text: `${name} is being imported already` };
  if (running !== undefined) await follow(service, running.id, name, wanted, 'of another');
  // One that had failed is gone.
  await service.call(client, client.get, { imageId: id });
  return { id, text: `${name} is imported` };
}

/** Shows the progress until the operation has ended well. Interrupted, it cancels what is ours. @throws StartError with its error. */
async function follow(
  service: RunningService,
  operationId: string,
  name: string,
  { signal, line }: CatalogImport,
  whose: 'ours' | 'of another',
): Promise<void> {
  try {
    await service.with(ProgressServiceClient, (client) =>
      readStream(client.watch({ operationId }, service.metadata), signal, (progress) =>
        line.show(`${name}: ${describe(progress)}`),
      ),
    );
  } catch (error) {
    if (signal.aborted && whose === 'ours') {
      await service.with(OperationServiceClient, (client) => service.call(client, client.cancel, { operationId }));
      throw new StartError(`stopped: the import of ${name} is cancelled`, { cause: error });
    }
    if (codeOf(error) !== grpcStatus.UNAVAILABLE) throw error;
    throw new StartError(
      `The service has gone away. It goes on with the import of ${name} when it is back: run the command again then`,
      {
        cause: error,
      },
    );
  }
  const { result } = await service.with(OperationServiceClient, (client) => service.call(client, client.get, { operationId }));
  if (result?.$case === 'error') throw new StartError(`The import of ${name} failed: ${result.value.message}`);
}

const inMiB = (bytes: bigint): string => (Number(bytes) / 1024 ** 2).toFixed(1);

function describe({ phase, bytesDone, bytesTotal, bytesPerSecond }: Progress): string {
  if (bytesTotal === 0n) return phase;
  const share = `${phase}, ${(bytesDone * 100n) / bytesTotal} % of ${inMiB(bytesTotal)} MiB`;
  return bytesPerSecond === 0n ? share : `${share}, ${inMiB(bytesPerSecond)} MiB/s`;
}

/** The gRPC status that a call ended with. */
const codeOf = (error: unknown): number | undefined => ((error as StartError).cause as Partial<ServiceError> | undefined)?.code;
