/**
 * Reads what testpmd prints about its ports.
 * @module
 */
import { parsePortStats, type PortStats } from '../../bench/port-stats.ts';

export type { PortStats };

/** Parses the answer to `show port stats PORT`. @throws Error when a counter is missing */
export function portStatisticsIn(answer: string, port: number): PortStats {
  const statistics = parsePortStats(answer, port);
  if (statistics === undefined) throw new Error(`no statistics of port ${port} in:\n${answer}`);
  return statistics;
}

/** True when the answer to `show port summary PORT` says that the link is up. */
export function linkUpIn(answer: string, port: number): boolean {
  const line = answer.split('\n').find((text) => new RegExp(`^${port}\\s`).test(text));
  if (line === undefined) throw new Error(`no port ${port} in:\n${answer}`);
  return /\sup\s/.test(line);
}
