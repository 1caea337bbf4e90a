/**
 * What l3fwd-power is told to do: the settings that its arguments write, and what they are when nothing is said.
 * @module
 */
import type { MacAddress } from '../../net/mac-address.ts';

/** A receive queue and the lcore that polls it, or sleeps on it. */
export interface QueueAssignment {
  readonly port: number;
  readonly queue: number;
  readonly lcore: number;
}

export interface RouteOption {
  /** `198.51.100.0/24`. */
  readonly prefix: string;
  readonly port: number;
}

export interface L3fwdOptions {
  /** Ports that take part, ascending. */
  readonly ports: readonly number[];
  readonly promiscuous: boolean;
  /** Undefined: queue 0 of every port, one lcore after the other. */
  readonly config: readonly QueueAssignment[] | undefined;
  readonly numa: boolean;
  /** Bytes of the longest frame, CRC included; undefined leaves the port's MTU. */
  readonly maxPktLen: number | undefined;
  readonly parsePtype: boolean;
  /** Longest prefix match, or exact match. */
  readonly lookup: 'lpm' | 'em';
  /** Files that take the place of the default routes. */
  readonly ruleFiles: { readonly 4?: string; readonly 6?: string };
  /** Routes beside those. */
  readonly routes: readonly RouteOption[];
  /** Destination addresses by port; 02:00:00:00:00:PORT where none is given. */
  readonly destinations: ReadonlyMap<number, MacAddress>;
  /** Rounds without a packet before an lcore sleeps. */
  readonly emptyPolls: number;
}

/** As many empty polls as DPDK's makes before it sleeps, without its pauses in between. */
export const DEFAULT_EMPTY_POLLS = 300;

export const DEFAULT_L3FWD_OPTIONS: L3fwdOptions = {
  ports: [],
  promiscuous: false,
  config: undefined,
  numa: true,
  maxPktLen: undefined,
  parsePtype: false,
  lookup: 'lpm',
  ruleFiles: {},
  routes: [],
  destinations: new Map(),
  emptyPolls: DEFAULT_EMPTY_POLLS,
};
