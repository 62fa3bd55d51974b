export { openQcow2 } from './image.ts';
