// What happens on Create image: authorize, parse the request into a narrower type, then one transaction that inserts the image with
// its operation. From a URL the image is CREATING and a job imports it. From another image, a snapshot or a disk it shares the source's
// layer and is READY at once, whatever its size; only a disk with writes that lie in no layer yet takes a job.
import { LockMode } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { CreateImageMetadata, type CreateImageRequest } from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { fromHardwareGenerationMessage, fromOsMessage } from '../catalog/guest.mapper.ts';
import { defaultHardwareGeneration, defaultOs, type HardwareGeneration, type Os } from '../catalog/guest.ts';
import { diskResource } from '../disks/disk-resource.ts';
import { requireFolder } from '../folders/require-folder.ts';
import { authorize } from '../iam/authorize.ts';
import type { Call, Method } from '../iam/call.ts';
import type { NewOperation } from '../operations/operations.ts';
import { pack } from '../operations/pack.ts';
import { failedPrecondition, invalidArgument, quotaExceeded } from '../platform/errors.ts';
import { newId } from '../platform/ids.ts';
import { lockSource } from '../resources/require.ts';
import { describeOperation } from '../resources/resource-type.ts';
import { assertNameFree } from '../resources/unique-name.ts';
import { snapshotResource } from '../snapshots/snapshot-resource.ts';
import { parseSourceUri } from '../sources/source-uri.ts';
import { storedBytes } from '../storage/layer-size.ts';
import { Image } from './image.entity.ts';
import { packImage } from './image.mapper.ts';
import type { ImageParts } from './image-parts.ts';
import { imageResource } from './image-resource.ts';
import { importJobKind, type ImportPayload } from './import/import-payload.ts';
import { maxImageBytes, resolveMinDiskSize } from './sizes.ts';

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
      switch (source.$case) {
        case 'uri':
          return importFromUri(em, request, source.value);
        case 'imageId':
          return copyImage(em, call, request, source.value);
        case 'snapshotId':
          return fromSnapshot(em, call, request, source.value, parts);
        case 'diskId':
          return fromDisk(em, call, request, source.value, parts);
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

async function importFromUri(em: EntityManager, request: CreateImageRequest, uri: string): Promise<NewOperation> {
  const minDiskSize = Number(request.minDiskSize);
  const image = await insert(em, request, nothing, { size: 0, storageSize: 0, minDiskSize });
  const payload: ImportPayload = { imageId: image.id, uri, minDiskSize };
  return { ...newOperation(image), cancellable: true, job: { kind: importJobKind, payload } };
}

async function copyImage(em: EntityManager, call: Call, request: CreateImageRequest, sourceId: string): Promise<NewOperation> {
  const source = await lockSource(em, call, imageResource, sourceId);
  const minDiskSize = resolveMinDiskSize(Number(request.minDiskSize), source.size, source.minDiskSize);
  const { size, storageSize, layerRoot } = source;
  return ready(await insert(em, request, source, { size, storageSize, minDiskSize }, { root: layerRoot ?? null }));
}

async function fromSnapshot(
  em: EntityManager,
  call: Call,
  request: CreateImageRequest,
  sourceId: string,
  { layers }: ImageParts,
): Promise<NewOperation> {
  const source = await lockSource(em, call, snapshotResource, sourceId);
  const root = source.layerRoot ?? null;
  const sizes = { ...sizesOf(request, `Snapshot ${source.id}`, source.diskSize), storageSize: await storedBytes(layers, root) };
  return ready(await insert(em, request, source, sizes, { root }));
}

async function fromDisk(
  em: EntityManager,
  call: Call,
  request: CreateImageRequest,
  sourceId: string,
  { contents, layers }: ImageParts,
): Promise<NewOperation> {
  const disk = await lockSource(em, call, diskResource, sourceId, LockMode.PESSIMISTIC_WRITE);
  const sizes = sizesOf(request, `Disk ${disk.id}`, disk.size);
  const settled = await contents.settledRoot(em, disk);
  if (settled !== undefined) {
    const storageSize = await storedBytes(layers, settled.root);
    return ready(await insert(em, request, disk, { ...sizes, storageSize }, settled));
  }
  const image = await insert(em, request, disk, { ...sizes, storageSize: 0 });
  return { ...newOperation(image), cancellable: true, job: await contents.captureJob(em, disk, { kind: 'image', id: image.id }) };
}

/** @throws DomainError FAILED_PRECONDITION when the source is larger than an image can be; INVALID_ARGUMENT on min_disk_size. */
function sizesOf(request: CreateImageRequest, source: string, size: number): { size: number; minDiskSize: number } {
  if (size > maxImageBytes) throw failedPrecondition(`${source} has ${size} bytes; an image holds at most ${maxImageBytes}`);
  return { size, minDiskSize: resolveMinDiskSize(Number(request.minDiskSize), size) };
}

/** What an image takes over from its source, where the request does not say otherwise. */
interface Inherited {
  productIds: string[];
  os: Os;
  hardwareGeneration: HardwareGeneration;
}

const nothing: Inherited = { productIds: [], os: defaultOs, hardwareGeneration: defaultHardwareGeneration };

/** Inserts the image: READY when its data is there, else CREATING. @throws DomainError ALREADY_EXISTS. */
async function insert(
  em: EntityManager,
  request: CreateImageRequest,
  inherited: Inherited,
  sizes: { size: number; storageSize: number; minDiskSize: number },
  data?: { root: string | null },
): Promise<Image> {
  await assertNameFree(em, imageResource, request.folderId, request.name);
  return em.create(Image, {
    id: newId('image'),
    folderId: request.folderId,
    createdAt: new Date(),
    name: request.name,
    description: request.description,
    labels: request.labels,
    family: request.family,
    pooled: false,
    ...sizes,
    productIds: request.productIds.length > 0 ? request.productIds : inherited.productIds,
    status: data === undefined ? 'CREATING' : 'READY',
    os: fromOsMessage(request.os, inherited.os),
    hardwareGeneration: fromHardwareGenerationMessage(request.hardwareGeneration, inherited.hardwareGeneration),
    layerRoot: data?.root ?? null,
  });
}

const newOperation = (image: Image): Pick<NewOperation, 'folderId' | 'resourceId' | 'description' | 'metadata'> => ({
  folderId: image.folderId,
  resourceId: image.id,
  description: describeOperation('Create', imageResource),
  metadata: pack(CreateImageMetadata, { imageId: image.id }),
});

const ready = (image: Image): NewOperation => ({ ...newOperation(image), response: packImage(image) });
