// A certificate that signs itself, and by what browsers are told to trust it.

import { execFile } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { isIP } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

export class Certificate {
  #folder;

  /** For these names and addresses, good for a day. */
  static async make(hosts) {
    const certificate = new Certificate();
    certificate.#folder = await mkdtemp(path.join(tmpdir(), 'veche-e2e-tls-'));
    const names = hosts.map((host) => `${isIP(host) ? 'IP' : 'DNS'}:${host}`).join();
    await promisify(execFile)('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-noenc', '-days', '1'],
      ...['-subj', '/CN=Veche', '-addext', `subjectAltName=${names}`],
      ...['-keyout', certificate.keyFile, '-out', certificate.file],
    ]);
    const { publicKey } = new X509Certificate(await readFile(certificate.file));
    /** What Chromium knows it by. */
    certificate.fingerprint = createHash('sha256').update(publicKey.export({ type: 'spki', format: 'der' })).digest('base64');
    return certificate;
  }

  get file() {
    return path.join(this.#folder, 'certificate.pem');
  }

  get keyFile() {
    return path.join(this.#folder, 'key.pem');
  }

  async remove() {
    await rm(this.#folder, { recursive: true, force: true });
  }
}
