/**
 * A session on fake ports whose output is kept.
 */
import { runCommand } from '../../src/cli/commands/table.ts';
import type { SessionContext, SessionOptions } from '../../src/cli/session.ts';
import { defaultOptions, Session } from '../../src/cli/session.ts';
import type { Mempool } from '../../src/memory/mempool.ts';
import type { Port } from '../../src/port/port.ts';
import { VirtioError } from '../../src/system/error.ts';
import { FakeLcores, FakePort } from './fake-port.ts';

export const engines = ['io', 'mac', 'macswap', 'flowgen', 'rxonly', 'txonly', 'csum', 'icmpecho', '5tswap', 'latency'];

export interface FakeSession {
  readonly session: Session;
  readonly ports: readonly FakePort[];
  readonly lcores: FakeLcores;
  /** All that was written since the last take(). */
  readonly take: () => string;
  /** Runs a line; returns what it wrote. */
  readonly run: (line: string) => Promise<string>;
}

export interface FakeOptions {
  readonly ports?: readonly FakePort[];
  readonly lcores?: FakeLcores;
  readonly options?: Partial<SessionOptions>;
  readonly context?: Partial<SessionContext>;
  /** Start the ports; true unless said otherwise. */
  readonly begin?: boolean;
}

export function attachNull(devargs: string, id: number): Promise<Port> {
  const name = devargs.split(',', 1)[0] ?? '';
  if (name.startsWith('net_null')) return Promise.resolve(new FakePort(id, { name }));
  return Promise.reject(new VirtioError(`EAL: failed to parse device "${devargs}"`, { code: 'ENODEV' }));
}

export async function fakeSession(fake: FakeOptions = {}): Promise<FakeSession> {
  const ports = fake.ports ?? [new FakePort(0), new FakePort(1)];
  const lcores = fake.lcores ?? new FakeLcores();
  let written = '';
  const take = (): string => {
    const text = written;
    written = '';
    return text;
  };
  const session = new Session({
    options: { ...defaultOptions, interactive: true, ...fake.options },
    ports,
    lcores,
    mainLcore: 0,
    mempool: {} as Mempool,
    engines,
    attachPort: attachNull,
    output: (text) => (written += text),
    ...fake.context,
  });
  if (fake.begin !== false) {
    await session.begin();
    take();
  }
  const run = async (line: string): Promise<string> => {
    take();
    await session.exclusive(() => runCommand(session, line));
    return take();
  };
  return { session, ports, lcores, take, run };
}
