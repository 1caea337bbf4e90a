/**
 * Two containers that share nothing but the socket's directory: each side in mount, PID and network namespaces of its own, with a
 * /run of its own.
 * @module
 */
import { describe, test } from 'vitest';
import { Pair, SocketDirectory } from '../support/pair.ts';
import { findExecutable } from '../support/program.ts';
import { expectLoop, expectOneWay } from '../support/traffic.ts';
import { MEETINGS, WHY_NO_PEERS } from './matrix.ts';

const MAY_UNSHARE = process.getuid?.() === 0 && findExecutable('unshare') !== undefined;

/** Namespaces in which the directory appears at another place, and not at its own. */
function container(directory: string, place: string): readonly string[] {
  const prepare = `mount --bind ${directory} ${place} && mount -t tmpfs none ${directory} && mount -t tmpfs none /run && exec "$@"`;
  return ['unshare', '--mount', '--pid', '--net', '--ipc', '--uts', '--fork', '--kill-child', '--mount-proc', 'sh', '-c', prepare, 'sh'];
}

describe.skipIf(WHY_NO_PEERS !== undefined || !MAY_UNSHARE)('each side in namespaces of its own', () => {
  test.each(MEETINGS)('$name', async ({ driver, device, server }) => {
    using shared = new SocketDirectory();
    using place = new SocketDirectory();
    const side = { wrapper: container(shared.path, place.path), socket: place.socket };
    await using pair = await Pair.start({ driver: { program: driver, ...side }, device: { program: device, ...side }, server }, shared);
    await expectOneWay(pair, 'driver', '64');
    await expectOneWay(pair, 'device', '1518');
    await expectLoop(pair, 'driver', 'mac');
    await pair.quit();
  });
});
