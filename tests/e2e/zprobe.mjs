import puppeteer from 'puppeteer-core';
import { Certificate } from '/work/wt/firewalls/tests/e2e/lib/certificate.mjs';
import { ownAddress } from '/work/wt/firewalls/tests/e2e/lib/proxy.mjs';
import { Server, freeMediaPort, freeTcpPort } from '/work/wt/firewalls/tests/e2e/lib/server.mjs';
const certificate = await Certificate.make([ownAddress()]);
const settings = { http: { https_listen: `${ownAddress()}:${await freeTcpPort()}`, certificate_file: certificate.file, key_file: certificate.keyFile }, turn: { listen: [`0.0.0.0:${await freeMediaPort()}`], hosts: [process.env.THOST ?? ownAddress()] } };
const server = await Server.start(settings);
const { ice_servers } = await server.get('/realtime/webrtc/ice-servers?room_id=x');
console.log(JSON.stringify(ice_servers));
const extra = JSON.parse(process.env.PREFS ?? '{}');
const browser = await puppeteer.launch({ browser: 'firefox', executablePath: '/usr/bin/firefox-esr', headless: true, acceptInsecureCerts: true, 
 extraPrefsFirefox: { 'media.peerconnection.ice.loopback': true, 'media.peerconnection.ice.obfuscate_host_addresses': false, ...extra } });
const context = process.env.DEFAULT ? browser : await browser.createBrowserContext();
const page = await context.newPage();
await page.goto(server.url);
console.log(await page.evaluate(async (servers) => {
  const turns = servers.map((s) => ({ ...s, urls: [s.urls].flat().filter((u) => u.startsWith('turns:')) })).filter((s) => s.urls.length);
  const pc = new RTCPeerConnection({ iceServers: turns, iceTransportPolicy: 'relay' });
  pc.createDataChannel('x'); const out = [];
  pc.onicecandidate = (e) => out.push(e.candidate?.candidate ?? 'end');
  pc.onicecandidateerror = (e) => out.push(`error ${e.errorCode} ${e.errorText} ${e.url}`);
  await pc.setLocalDescription();
  await new Promise((r) => setTimeout(r, 4000));
  return out;
}, ice_servers));
await browser.close(); await server.stop(); await certificate.remove();
