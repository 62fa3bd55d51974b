// What happens on Create image: authorize, parse the request into a narrower type, then one transaction that inserts the image with
// its operation. From a URL the image is CREATING and a job imports it; from another image it shares the source's layer and is READY
// at once, whatever its size.
import { type EntityManager, LockMode } from '@mikro-orm/postgresql';
import { CreateImageMetadata, type CreateImageRequest } from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { fromHardwareGenerationMessage, fromOsMessage } from '../catalog/guest.mapper.ts';
import { defaultHardwareGeneration, defaultOs } from '../catalog/guest.ts';
import { requireFolder } from '../folders/require-folder.ts';
import { authorize } from '../iam/authorize.ts';
import type { Call, Method } from '../iam/call.ts';
import type { NewOperation } from '../operations/operations.ts';
import { pack } from '../operations/pack.ts';
import { invalidArgument, notFound, quotaExceeded } from '../platform/errors.ts';
import { newId } from '../platform/ids.ts';
import { parseSourceUri } from '../sources/source-uri.ts';
import { Image } from './image.entity.ts';
import { packImage } from './image.mapper.ts';
import type { ImageParts } from './image-parts.ts';
import { assertReady } from './image-status.ts';
import { importJobKind, type ImportPayload } from './import/import-payload.ts';
import { resolveMinDiskSize } from './sizes.ts';
import { assertNameFree } from './unique-name.ts';

type Source = NonNullable<CreateImageRequest['source']>;

export const createImage =
  (parts: ImageParts): Method<CreateImageRequest, OperationMessage> =>
  async (request, call) => {
    await authorize(call, 'compute.images.create', { kind: 'resource-manager.folder', id: request.folderId });
    const source = parseSource(request, parts);
    return parts.operations.begin(call, async (em) => {
      const folder = await requireFolder(em, request.folderId);
      if (request.pooled) {
        throw quotaExceeded(folder.cloudId, { metric: 'compute.diskPools.count', limit: 0, usage: 0, required: 1 });
      }
      await assertNameFree(em, folder.id, request.name);
      switch (source.$case) {
        case 'uri':
          return importFromUri(request, source.value, em);
        case 'imageId':
          return copyImage(request, source.value, em, call);
        case 'diskId':
          throw notFound('Disk', source.value);
        case 'snapshotId':
          throw notFound('Snapshot', source.value);
      }
    });
  };

/** @throws DomainError INVALID_ARGUMENT for everything that can be known of the source without a look at it. */
function parseSource(request: CreateImageRequest, { urlPolicy }: ImageParts): Source {
  const { source } = request;
  if (source === undefined || source.value === '') {
    throw invalidArgument('source', 'exactly one of image_id, disk_id, snapshot_id and uri must be given');
  }
  if (source.$case === 'uri') urlPolicy.precheck(parseSourceUri(source.value));
  return source;
}

/** The fields that come from the request alone. */
const requested = (request: CreateImageRequest) => ({
  id: newId('image'),
  folderId: request.folderId,
  createdAt: new Date(),
  name: request.name,
  description: request.description,
  labels: request.labels,
  family: request.family,
  pooled: false,
});

function newOperation(image: Image): Pick<NewOperation, 'folderId' | 'resourceId' | 'description' | 'metadata'> {
  return {
    folderId: image.folderId,
    resourceId: image.id,
    description: 'Create image',
    metadata: pack(CreateImageMetadata, { imageId: image.id }),
  };
}

function importFromUri(request: CreateImageRequest, uri: string, em: EntityManager): NewOperation {
  const minDiskSize = Number(request.minDiskSize);
  const image = em.create(Image, {
    ...requested(request),
    size: 0,
    storageSize: 0,
    minDiskSize,
    productIds: request.productIds,
    status: 'CREATING',
    os: fromOsMessage(request.os, defaultOs),
    hardwareGeneration: fromHardwareGenerationMessage(request.hardwareGeneration, defaultHardwareGeneration),
    layerRoot: null,
  });
  const payload: ImportPayload = { imageId: image.id, uri, minDiskSize };
  return { ...newOperation(image), cancellable: true, job: { kind: importJobKind, payload } };
}

async function copyImage(request: CreateImageRequest, sourceId: string, em: EntityManager, call: Call): Promise<NewOperation> {
  // The lock holds a delete of the source back until the copy's root is committed with it.
  const source = await em.findOne(Image, { id: sourceId }, { lockMode: LockMode.PESSIMISTIC_READ });
  if (source === null) throw notFound('Image', sourceId);
  await authorize(call, 'compute.images.use', { kind: 'compute.image', id: source.id, folderId: source.folderId });
  assertReady(source);
  const image = em.create(Image, {
    ...requested(request),
    size: source.size,
    storageSize: source.storageSize,
    minDiskSize: resolveMinDiskSize(Number(request.minDiskSize), source.size, source.minDiskSize),
    productIds: request.productIds.length > 0 ? request.productIds : source.productIds,
    status: 'READY',
    os: fromOsMessage(request.os, source.os),
    hardwareGeneration: fromHardwareGenerationMessage(request.hardwareGeneration, source.hardwareGeneration),
    layerRoot: source.layerRoot,
  });
  return { ...newOperation(image), response: packImage(image) };
}
