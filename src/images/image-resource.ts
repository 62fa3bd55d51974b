import type { ResourceType } from '../resources/resource-type.ts';
import { Image } from './image.entity.ts';

export const imageResource: ResourceType<Image> = {
  noun: 'Image',
  entity: Image,
  table: 'images',
  kind: 'compute.image',
  permissions: 'compute.images',
};
