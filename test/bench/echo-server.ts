// The primitive that API figures are ratios to: a bare grpc-js server with the same stubs, answering one fixed image.
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { Image } from '../../generated/yandex/cloud/compute/v1/image.ts';
import { ImageServiceService } from '../../generated/yandex/cloud/compute/v1/image_service.ts';

const image = Image.fromPartial({
  id: 'fd8aaaaaaaaaaaaaaaaa',
  folderId: 'b1gaaaaaaaaaaaaaaaaa',
  createdAt: new Date(),
  name: 'an-image',
  family: 'a-family',
  labels: { purpose: 'bench' },
  size: 4_194_304n,
  minDiskSize: 4_194_304n,
  status: 2,
  os: { type: 1 },
});
const server = new Server();
server.addService(
  { get: ImageServiceService.get },
  {
    get: (_call: unknown, answer: (error: null, message: Image) => void) => answer(null, image),
  },
);
server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
  if (error !== null) throw error;
  console.log(`listening 127.0.0.1:${port}`);
});
