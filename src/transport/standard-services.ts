import type { ServerUnaryCall, UntypedHandleCall } from '@grpc/grpc-js';
import type { DomainError } from '../platform/errors.ts';
import type { Descriptors } from './descriptors.ts';
import { type Health, createHealth } from './health.ts';
import type { RateLimits } from './rate-limits.ts';
import { reflectionServices } from './reflection.ts';
import { newRequestId } from './request-id.ts';
import type { Service } from './service.ts';
import { toFailure } from './status.ts';

/** All that a server hosts: `services`, and beside them health and reflection, which know them by name. NOT_SERVING at first. */
export function withStandardServices(
  descriptors: Descriptors,
  services: readonly Service[],
  limits?: RateLimits,
): { services: Service[]; health: Health } {
  const names = services.map(({ name }) => name);
  const health = createHealth(names);
  const standard = [health.service, ...reflectionServices(descriptors, [...names, health.service.name], limits)];
  return { services: [...services, ...standard.map((service) => limited(service, limits))], health };
}

type AnyCall = Pick<ServerUnaryCall<unknown, unknown>, 'getPeer' | 'emit'>;
type AnyHandler = (call: AnyCall, send?: (failure: object) => void) => void;

/** Calls that need no token are counted by address all the same. */
function limited(service: Service, limits: RateLimits | undefined): Service {
  if (limits === undefined) return service;
  const limitedHandler =
    (handler: UntypedHandleCall): AnyHandler =>
    (call, send) => {
      try {
        limits.admit(call.getPeer());
      } catch (error) {
        const failure = toFailure(error as DomainError, newRequestId());
        if (send !== undefined) send(failure);
        else call.emit('error', failure);
        return;
      }
      (handler as AnyHandler)(call, send);
    };
  return {
    ...service,
    handlers: (listener) =>
      Object.fromEntries(Object.entries(service.handlers(listener)).map(([name, handler]) => [name, limitedHandler(handler)])),
  };
}
