import { Image as ImageMessage, Image_Status } from '../../generated/yandex/cloud/compute/v1/image.ts';
import { toHardwareGenerationMessage, toOsMessage } from '../catalog/guest.mapper.ts';
import { type PackedMessage, pack } from '../operations/pack.ts';
import type { Image } from './image.entity.ts';

export function toImageMessage(image: Image): ImageMessage {
  return {
    id: image.id,
    folderId: image.folderId,
    createdAt: image.createdAt,
    name: image.name,
    description: image.description,
    labels: image.labels,
    family: image.family,
    size: BigInt(image.size),
    storageSize: BigInt(image.storageSize),
    minDiskSize: BigInt(image.minDiskSize),
    productIds: image.productIds,
    status: Image_Status[image.status],
    os: toOsMessage(image.os),
    pooled: image.pooled,
    hardwareGeneration: toHardwareGenerationMessage(image.hardwareGeneration),
    kmsKey: undefined,
  };
}

/** The image as an operation's response. */
export const packImage = (image: Image): PackedMessage => pack(ImageMessage, toImageMessage(image));
