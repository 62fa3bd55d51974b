import type { Descriptors } from './descriptors.ts';
import { type Health, createHealth } from './health.ts';
import { reflectionServices } from './reflection.ts';
import type { Service } from './service.ts';

/** All that a server hosts: `services`, and beside them health and reflection, which know them by name. NOT_SERVING at first. */
export function withStandardServices(
  descriptors: Descriptors,
  services: readonly Service[],
): { services: Service[]; health: Health } {
  const names = services.map(({ name }) => name);
  const health = createHealth(names);
  return { services: [...services, health.service, ...reflectionServices(descriptors, [...names, health.service.name])], health };
}
