// yandex.cloud.compute.v1: DiskTypeService and ZoneService, whole. The lists have no owner: every authenticated caller may read them.
import type { DiskType as DiskTypeMessage } from '../../generated/yandex/cloud/compute/v1/disk_type.ts';
import type {
  GetDiskTypeRequest,
  ListDiskTypesRequest,
  ListDiskTypesResponse,
} from '../../generated/yandex/cloud/compute/v1/disk_type_service.ts';
import { type Zone as ZoneMessage, Zone_Status } from '../../generated/yandex/cloud/compute/v1/zone.ts';
import type {
  GetZoneRequest,
  ListZonesRequest,
  ListZonesResponse,
} from '../../generated/yandex/cloud/compute/v1/zone_service.ts';
import { authenticated } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { notFound } from '../platform/errors.ts';
import { type DiskType, diskTypes } from './disk-types.ts';
import { pageOf } from '../db/listing/list-fixed.ts';
import { type Zone, zones } from './zones.ts';

const getDiskType: Method<GetDiskTypeRequest, DiskTypeMessage> = async ({ diskTypeId }, call) => {
  authenticated(call);
  return toDiskTypeMessage(required('Disk type', diskTypes, diskTypeId));
};

const listDiskTypes: Method<ListDiskTypesRequest, ListDiskTypesResponse> = async (query, call) => {
  authenticated(call);
  const { items, nextPageToken } = pageOf('yandex.cloud.compute.v1.DiskTypeService/List', diskTypes, query);
  return { diskTypes: items.map(toDiskTypeMessage), nextPageToken };
};

const getZone: Method<GetZoneRequest, ZoneMessage> = async ({ zoneId }, call) => {
  authenticated(call);
  return toZoneMessage(required('Zone', zones, zoneId));
};

const listZones: Method<ListZonesRequest, ListZonesResponse> = async (query, call) => {
  authenticated(call);
  const { items, nextPageToken } = pageOf('yandex.cloud.compute.v1.ZoneService/List', zones, query);
  return { zones: items.map(toZoneMessage), nextPageToken };
};

export const diskTypeMethods = () => ({ get: getDiskType, list: listDiskTypes });

export const zoneMethods = () => ({ get: getZone, list: listZones });

const toDiskTypeMessage = ({ id, description, zoneIds }: DiskType): DiskTypeMessage => ({
  id,
  description,
  zoneIds: [...zoneIds],
});

const toZoneMessage = ({ id, regionId }: Zone): ZoneMessage => ({ id, regionId, status: Zone_Status.UP });

/** @throws DomainError NOT_FOUND. */
function required<Item extends { id: string }>(noun: string, items: readonly Item[], id: string): Item {
  const item = items.find((known) => known.id === id);
  if (item === undefined) throw notFound(noun, id.slice(0, 64));
  return item;
}
