// yandex.cloud.compute.v1.ImageService, whole: one file per method.
import { accessBindingMethods } from '../resources/access-bindings.ts';
import { createImage } from './create.ts';
import { deleteImage } from './delete.ts';
import { getLatestImageByFamily } from './get-latest-by-family.ts';
import { getImage } from './get.ts';
import type { ImageParts } from './image-parts.ts';
import { imageResource } from './image-resource.ts';
import { listImageOperations } from './list-operations.ts';
import { listImages } from './list.ts';
import { updateImage } from './update.ts';

export const imageMethods = (parts: ImageParts) => {
  const { operations } = parts;
  return {
    get: getImage(parts),
    getLatestByFamily: getLatestImageByFamily(parts),
    list: listImages(),
    create: operations.idempotent(createImage(parts)),
    update: operations.idempotent(updateImage(parts)),
    delete: operations.idempotent(deleteImage(parts)),
    listOperations: listImageOperations(),
    ...accessBindingMethods(imageResource, operations),
  };
};
