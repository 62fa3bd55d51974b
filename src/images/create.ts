// What happens on Create image: authorize, parse the request into a narrower type, then one transaction that inserts the image with
// its operation. From a URL the image is CREATING and a job imports it. From another image, a snapshot or a disk it shares the source's
// layer and is READY at once, whatever its size; a job is taken only by a disk with writes that lie in no layer yet, and by an optimized
// image, whose layer is verified first.
import { LockMode } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { CreateImageMetadata, type CreateImageRequest } from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { fromHardwareGenerationMessage, fromOsMessage } from '../catalog/guest.mapper.ts';
import { defaultHardwareGeneration, defaultOs, type HardwareGeneration, type Os } from '../catalog/guest.ts';
import { diskResource } from '../disks/disk-resource.ts';
import { holdFolder } from '../folders/hold-folder.ts';
import { authorize } from '../iam/authorize.ts';
import type { Call, Method } from '../iam/call.ts';
import type { NewOperation } from '../operations/operations.ts';
import { pack } from '../operations/pack.ts';
import { failedPrecondition, invalidArgument } from '../platform/errors.ts';
import { newId } from '../platform/ids.ts';
import { reserve } from '../quotas/reserve.ts';
import { lockSource } from '../resources/require.ts';
import { describeOperation } from '../resources/resource-type.ts';
import { changeStatus } from '../resources/status.ts';
import { assertNameFree } from '../resources/unique-name.ts';
import { snapshotResource } from '../snapshots/snapshot-resource.ts';
import { parseSourceUri } from '../sources/source-uri.ts';
import { storedBytes } from '../storage/layer-size.ts';
import { Image } from './image.entity.ts';
import { packImage } from './image.mapper.ts';
import type { ImageParts } from './image-parts.ts';
import { demandsOfImage } from './image-quotas.ts';
import { imageResource } from './image-resource.ts';
import { importJobKind, type ImportPayload } from './import/import-payload.ts';
import { poolOrder } from './pool-payload.ts';
import { maxImageBytes, resolveMinDiskSize } from './sizes.ts';

type Source = NonNullable<CreateImageRequest['source']>;

export const createImage =
  (parts: ImageParts): Method<CreateImageRequest, OperationMessage> =>
  async (request, call) => {
    await authorize(call, 'compute.images.create', { kind: 'resource-manager.folder', id: request.folderId });
    const source = parseSource(request, parts);
    return parts.operations.begin(call, async (em) => {
      await holdFolder(em, request.folderId);
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
  const payload: ImportPayload = { imageId: image.id, uri, minDiskSize, pooled: image.pooled };
  return { ...newOperation(image), cancellable: true, job: { kind: importJobKind, payload } };
}

async function copyImage(em: EntityManager, call: Call, request: CreateImageRequest, sourceId: string): Promise<NewOperation> {
  const source = await lockSource(em, call, imageResource, sourceId);
  const minDiskSize = resolveMinDiskSize(Number(request.minDiskSize), source.size, source.minDiskSize);
  const { size, storageSize, layerRoot } = source;
  return withLayer(await insert(em, request, source, { size, storageSize, minDiskSize }), layerRoot ?? null);
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
  return withLayer(await insert(em, request, source, sizes), root);
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
    return withLayer(await insert(em, request, disk, { ...sizes, storageSize }), settled.root);
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

/** Inserts the image, CREATING. @throws DomainError ALREADY_EXISTS, RESOURCE_EXHAUSTED. */
async function insert(
  em: EntityManager,
  request: CreateImageRequest,
  inherited: Inherited,
  sizes: { size: number; storageSize: number; minDiskSize: number },
): Promise<Image> {
  await assertNameFree(em, imageResource, request.folderId, request.name);
  await reserve(em, { folderId: request.folderId }, demandsOfImage({ pooled: request.pooled, size: sizes.size }));
  return em.create(Image, {
    id: newId('image'),
    folderId: request.folderId,
    createdAt: new Date(),
    name: request.name,
    description: request.description,
    labels: request.labels,
    family: request.family,
    pooled: request.pooled,
    ...sizes,
    productIds: request.productIds.length > 0 ? request.productIds : inherited.productIds,
    status: 'CREATING',
    os: fromOsMessage(request.os, inherited.os),
    hardwareGeneration: fromHardwareGenerationMessage(request.hardwareGeneration, inherited.hardwareGeneration),
    layerRoot: null,
  });
}

const newOperation = (
  image: Image,
): Pick<NewOperation, 'folderId' | 'resourceId' | 'resourceKind' | 'description' | 'metadata'> => ({
  folderId: image.folderId,
  resourceId: image.id,
  resourceKind: imageResource.kind,
  description: describeOperation('Create', imageResource),
  metadata: pack(CreateImageMetadata, { imageId: image.id }),
});

/** The image's data is all there: it is READY, or when it is to be optimized, a job holds the layer until all of it was found whole. */
function withLayer(image: Image, root: string | null): NewOperation {
  if (image.pooled && root !== null) return { ...newOperation(image), cancellable: true, job: poolOrder(image.id, root) };
  changeStatus('Image', image, 'READY');
  image.layerRoot = root;
  return { ...newOperation(image), response: packImage(image) };
}
