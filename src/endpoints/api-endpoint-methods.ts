// yandex.cloud.endpoint.ApiEndpointService: tells clients where the services are, before they have a token. Everything is at one
// address: the one that the caller used, or the configured one.
import type { ApiEndpoint } from '../../generated/yandex/cloud/endpoint/api_endpoint.ts';
import type {
  GetApiEndpointRequest,
  ListApiEndpointsRequest,
  ListApiEndpointsResponse,
} from '../../generated/yandex/cloud/endpoint/api_endpoint_service.ts';
import type { Call, Method } from '../iam/call.ts';
import { notFound } from '../platform/errors.ts';
import { endpointIds } from './endpoint-ids.ts';

export interface ApiEndpointParts {
  /** OBRAZ_PUBLIC_ADDRESS, host:port. */
  publicAddress: string | undefined;
}

export const apiEndpointMethods = (parts: ApiEndpointParts) => ({ get: getApiEndpoint(parts), list: listApiEndpoints(parts) });

const getApiEndpoint =
  ({ publicAddress }: ApiEndpointParts): Method<GetApiEndpointRequest, ApiEndpoint> =>
  async ({ apiEndpointId }, call) => {
    const id = endpointIds.find((known) => known === apiEndpointId);
    if (id === undefined) throw notFound('Endpoint', apiEndpointId.slice(0, 64));
    return { id, address: publicAddress ?? addressOf(call) };
  };

/** Always the whole list on one page, whatever page is asked for: no client asks for a second one. */
const listApiEndpoints =
  ({ publicAddress }: ApiEndpointParts): Method<ListApiEndpointsRequest, ListApiEndpointsResponse> =>
  async (_request, call) => {
    const address = publicAddress ?? addressOf(call);
    return { endpoints: endpointIds.map((id) => ({ id, address })), nextPageToken: '' };
  };

/** host:port, as clients dial it. A client that calls a default port may leave the port out. */
function addressOf({ authority, secure }: Call): string {
  return /:\d{1,5}$/.test(authority) ? authority : `${authority}:${secure ? 443 : 80}`;
}
