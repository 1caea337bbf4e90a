/**
 * Entry of the Worker that waits for readiness of the control sockets (readiness.ts).
 * @module
 */
import { parentPort, workerData } from 'node:worker_threads';
import { waitForEvents } from './readiness.ts';

const { epoll } = workerData as { readonly epoll: number };
waitForEvents(epoll, (keys) => parentPort?.postMessage(keys));
