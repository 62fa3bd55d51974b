import { type EntityManager, LockMode } from '@mikro-orm/postgresql';
import { notFound } from '../platform/errors.ts';
import { Image } from './image.entity.ts';

/** @throws DomainError NOT_FOUND. */
export async function requireImage(em: EntityManager, id: string): Promise<Image> {
  const image = await em.findOne(Image, { id });
  if (image === null) throw notFound('Image', id);
  return image;
}

/** The image, locked against every other change until the transaction ends. @throws DomainError NOT_FOUND. */
export async function lockImage(em: EntityManager, id: string): Promise<Image> {
  const image = await em.findOne(Image, { id }, { lockMode: LockMode.PESSIMISTIC_WRITE });
  if (image === null) throw notFound('Image', id);
  return image;
}
