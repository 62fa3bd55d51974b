// Every entity of the service: what is in the database is read off this list. (src/db knows no resource, so the list stands here.)
import { ImageSchema } from './images/image.entity.ts';

export const entities = [ImageSchema];
