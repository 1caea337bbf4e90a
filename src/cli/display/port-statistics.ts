/**
 * `show port stats`, `show port xstats` and the screen of --stats-period.
 * @module
 */
import type { ExtendedStatistic, PortStatistics } from '../../port/port.ts';

const border = '########################';

/** What a port's counters showed the last time, and when (nanoseconds); rates are since then. */
export interface ShownStatistics {
  readonly statistics: PortStatistics;
  readonly nanoseconds: bigint;
}

const count = (value: number): string => String(value).padEnd(10);
const rate = (value: number): string => String(value).padStart(12);

function perSecond(now: number, before: number, seconds: number): number {
  return seconds > 0 && now > before ? Math.trunc((now - before) / seconds) : 0;
}

/** A port's block of `show port stats`. `last` is undefined the first time: the rates are 0 then. */
export function portStatisticsText(port: number, now: ShownStatistics, last: ShownStatistics | undefined): string {
  const { statistics } = now;
  const before = last?.statistics ?? statistics;
  const seconds = last === undefined ? 0 : Number(now.nanoseconds - last.nanoseconds) / 1e9;
  const rxRate = perSecond(statistics.rxPackets, before.rxPackets, seconds);
  const txRate = perSecond(statistics.txPackets, before.txPackets, seconds);
  const rxBits = perSecond(statistics.rxBytes, before.rxBytes, seconds) * 8;
  const txBits = perSecond(statistics.txBytes, before.txBytes, seconds) * 8;
  return [
    '',
    `  ${border} NIC statistics for port ${String(port).padEnd(2)} ${border}`,
    `  RX-packets: ${count(statistics.rxPackets)} RX-missed: ${count(statistics.rxMissed)} RX-bytes:  ${statistics.rxBytes}`,
    `  RX-errors: ${statistics.rxErrors}`,
    `  RX-nombuf:  ${count(statistics.rxNoMbuf)}`,
    `  TX-packets: ${count(statistics.txPackets)} TX-errors: ${count(statistics.txErrors)} TX-bytes:  ${statistics.txBytes}`,
    '',
    '  Throughput (since last show)',
    `  Rx-pps: ${rate(rxRate)}          Rx-bps: ${rate(rxBits)}`,
    `  Tx-pps: ${rate(txRate)}          Tx-bps: ${rate(txBits)}`,
    `  ${border}############################${border}`,
    '',
  ].join('\n');
}

/** A port's block of `show port xstats`. */
export function extendedStatisticsText(port: number, statistics: readonly ExtendedStatistic[], hideZero: boolean): string {
  const shown = statistics.filter(({ value }) => !hideZero || value !== 0);
  return [
    `###### NIC extended statistics for port ${String(port).padEnd(2)}`,
    ...shown.map(({ name, value }) => `${name}: ${value}`),
    '',
  ].join('\n');
}

/** What --stats-period prints before the ports' blocks: clear the screen, go to its corner. */
export const statisticsScreenHeader = '\u001b[2J\u001b[1;1H\nPort statistics ====================================';
