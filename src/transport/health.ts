// grpc.health.v1 for the server as a whole (the empty name) and for each service. The npm package does the work; what it leaves open is
// closed here: it would remember every unknown name that anyone ever watched, and keep watchers when the server stops.
import {
  type Server,
  type ServerUnaryCall,
  type ServerWritableStream,
  type UntypedServiceImplementation,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { HealthImplementation, service as healthDefinition } from 'grpc-health-check';
import type { Service } from './service.ts';

interface HealthRequest {
  service: string;
}

interface HealthHandlers {
  check(call: ServerUnaryCall<HealthRequest, unknown>, send: sendUnaryData<unknown>): void;
  watch(call: ServerWritableStream<HealthRequest, unknown>): void;
  list(call: ServerUnaryCall<unknown, unknown>, send: sendUnaryData<unknown>): void;
}

export interface Health {
  readonly service: Service;
  /** SERVING or NOT_SERVING, for the server and all services at once. */
  setServing(serving: boolean): void;
}

const name = 'grpc.health.v1.Health';

/** NOT_SERVING at first. */
export function createHealth(serviceNames: readonly string[]): Health {
  const known = new Set(['', name, ...serviceNames]);
  const implementation = new HealthImplementation(Object.fromEntries([...known].map((each) => [each, 'NOT_SERVING'])));
  const { check, watch, list } = handlersOf(implementation);
  return {
    setServing(serving) {
      for (const each of known) implementation.setStatus(each, serving ? 'SERVING' : 'NOT_SERVING');
    },
    service: {
      name,
      definition: healthDefinition,
      handlers: ({ running: { stopping } }): UntypedServiceImplementation => ({
        list,
        check(call: ServerUnaryCall<HealthRequest, unknown>, send: sendUnaryData<unknown>) {
          if (known.has(call.request.service)) check(call, send);
          else send({ code: status.NOT_FOUND, details: 'there is no such service' });
        },
        watch(call: ServerWritableStream<HealthRequest, unknown>) {
          const end = (): void => void call.end();
          stopping.addEventListener('abort', end, { once: true });
          call.once('close', () => stopping.removeEventListener('abort', end));
          if (known.has(call.request.service)) watch(call);
          // The stream stays open, as the protocol asks; no service is added while the server runs.
          else call.write({ status: 'SERVICE_UNKNOWN' });
        },
      }),
    },
  };
}

/** The package gives its handlers to a server only. */
function handlersOf(implementation: HealthImplementation): HealthHandlers {
  let found: HealthHandlers | undefined;
  const taker = { addService: (_definition: unknown, handlers: HealthHandlers) => (found = handlers) };
  implementation.addToServer(taker as unknown as Server);
  return found!;
}
