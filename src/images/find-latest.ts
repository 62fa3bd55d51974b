// The newest READY image of a family: what Terraform and Packer ask for before every create. Questions of the same moment share one query,
// which takes one look into the index for each family.
import { raw } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { coalesce } from '../platform/coalesce.ts';
import { Image } from './image.entity.ts';

/** For reading only: equal questions get the same object. */
export type FindLatestImage = (folderId: string, family: string) => Promise<Image | undefined>;

/** That the family is not empty is what the index over families wants to hear. */
const newestOfEach = (alias: string): string =>
  `${alias}.id in (
     select latest.id from jsonb_to_recordset(?::jsonb) as wanted (folder_id text, family text)
     cross join lateral (
       select images.id from images
       where images.folder_id = wanted.folder_id and images.family = wanted.family and images.family <> '' and images.status = 'READY'
       order by images.created_at desc, images.id desc limit 1
     ) latest)`;

export function latestImages(fork: () => EntityManager): FindLatestImage {
  const find = coalesce<string, Image>(
    async (keys) => {
      const wanted = keys.map((key) => JSON.parse(key) as [string, string]).map(([folder_id, family]) => ({ folder_id, family }));
      const condition = { [raw(newestOfEach, [JSON.stringify(wanted)])]: [] };
      const found = await fork().find(Image, condition, { disableIdentityMap: true });
      return new Map(found.map((image) => [keyOf(image.folderId, image.family), image]));
    },
    { maxBatch: 200 },
  );
  return (folderId, family) => find(keyOf(folderId, family));
}

const keyOf = (folderId: string, family: string): string => JSON.stringify([folderId, family]);
