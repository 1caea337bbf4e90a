/**
 * `dpdk-ts/lcore`: forwarding engines, plans of streams, and the Workers that run them.
 * @module
 */
export type { EngineStream, ForwardingEngine } from './engines/engine.ts';
export { engineNames } from './engines/index.ts';
export type { ForwardingPlan, Lcores, Stream, StreamCounters } from './forwarding-plan.ts';
export { WorkerLcores, type LcoreOptions, type WorkerLcoresOptions } from './lcores.ts';
export { planStreams, topologies, type LcoreStreams, type StreamInput, type StreamPlan, type Topology } from './streams.ts';
