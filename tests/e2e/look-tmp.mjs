import { Chromium } from './lib/chromium.mjs';
import { Firefox } from './lib/firefox.mjs';
import { Server } from './lib/server.mjs';
import { sleep } from './lib/until.mjs';
const out = '/tmp/b/shots'; 
import { mkdirSync } from 'node:fs'; mkdirSync(out, { recursive: true });
const hook = `(() => { const S = window.WebSocket; window.WebSocket = class extends S { constructor(...a) { super(...a); window.__socket = this; } }; 
 window.__say = (m) => window.__socket.onmessage({ data: JSON.stringify(m) });
 window.__active = () => window.veche.connection.getSenders().filter(s => s.track?.kind === 'video').map(s => s.getParameters().encodings.map(e => (e.rid ?? '-') + ':' + e.active + ':' + (e.scalabilityMode ?? '')));
 window.__out = async () => { const r = []; (await window.veche.connection.getStats()).forEach(s => { if (s.type === 'outbound-rtp' && s.kind === 'video') r.push([s.rid ?? '-', s.active, s.framesEncoded, s.frameWidth, s.scalabilityMode, s.keyFramesEncoded]); }); return r; };
})();`;
const server = await Server.start({});
const chromium = await Chromium.start();
const which = process.argv[2] ?? 'all';
try {
  const camera = { width: 640, height: 360, frameRate: 15 };
  const make = async (name, options = {}, query = {}) => {
    const p = await chromium.person(name, { camera, ...options });
    await p.page.addInitScript({ content: hook });
    return p.join(server.url, 'look', query);
  };
  const ann = await make('Ann', { camera: { width: 1280, height: 720, frameRate: 15 } });
  const bob = await make('Bob');
  await ann.seesMoving('Bob'); await bob.seesMoving('Ann');
  if (which === 'all' || which === 'layers') {
    const layers = async (p, list) => { await p.evaluate((l) => { const mid = window.veche.connection.getTransceivers().find(t => t.direction === 'sendonly' && t.sender.track?.kind === 'video').mid; window.__say({ signal_type: 'layers', mid, layers: l }); }, list); };
    const story = async (p, label) => {
      console.log(label, 'start', JSON.stringify(await p.evaluate(() => window.__active())), JSON.stringify(await p.evaluate(() => window.__out())));
      for (const [n, l] of [['only q', [1,0,0]], ['none', [0,0,0]], ['f', [0,0,1]], ['all', [1,1,1]]]) {
        const list = ['q','h','f'].map((rid, i) => ({ rid, active: !!l[i] }));
        await layers(p, list); await sleep(1000);
        const a = await p.evaluate(() => window.__out()); await sleep(1500); const b = await p.evaluate(() => window.__out());
        console.log(label, n, JSON.stringify(await p.evaluate(() => window.__active())), JSON.stringify(b.map((x, i) => [x[0], 'active=' + x[1], 'frames+' + (x[2] - (a[i]?.[2] ?? 0)), x[3], 'key=' + x[5]])));
      }
      console.log(label, 'warnings', p.messages.filter(m => /refused|page error/.test(m)));
    };
    await story(ann, 'chromium');
    const firefox = await Firefox.start();
    try {
      const fox = await firefox.person('Fox', { camera });
      await fox.page.evaluateOnNewDocument(hook);
      await fox.join(server.url, 'look');
      await fox.seesMoving('Ann', { within: 20000 });
      await story(fox, 'firefox');
      await ann.seesMoving('Fox', { within: 20000 });
      console.log('ann sees fox after all');
      await fox.close();
    } finally { await firefox.stop(); }
  }
  if (which === 'all' || which === 'svc') {
    for (const [codec, svc] of [['vp9','L3T3_KEY'],['av1','L3T3_KEY'],['av1','L1T3'],['vp8','L3T3_KEY'],['vp8','L1T3'],['vp9','']]) {
      const eve = await make('Eve', { camera: { width: 1280, height: 720, frameRate: 15 } }, svc ? { codec, svc } : { codec });
      let seen = 'seen'; await bob.seesMoving('Eve', { within: 12000 }).catch((e) => seen = String(e).slice(0, 100));
      await sleep(1500);
      console.log(codec, svc, seen, JSON.stringify(await eve.evaluate(() => window.__active())), JSON.stringify(await eve.evaluate(() => window.__out())), eve.messages.filter(m => /warn|page error/.test(m)).slice(0, 3));
      await eve.evaluate(() => window.veche.leave()); await eve.close(); await sleep(300);
    }
  }
  if (which === 'all' || which === 'shots') {
    const cid = (name) => bob.evaluate((n) => { const p = window.veche.participants.find(x => x.name === n); const t = p.tracks.find(x => x.source === 'camera'); return { peer: p.peerId, track: t.trackId, mid: t.slot?.mid }; }, name);
    const cat = await make('Мария Петрова', {}, {}); await bob.seesMoving('Мария Петрова');
    const a = await cid('Ann'); const c = await cid('Мария Петрова');
    const pause = async (slot, fresh) => { if (fresh) await bob.evaluate((s) => window.__say({ signal_type: 'slots', slots: [{ mid: s.mid, reason: 'displaced' }] }), slot); await bob.evaluate((s) => window.__say({ signal_type: 'slots', slots: [{ mid: s.mid, peer_id: s.peer, track_id: s.track, reason: 'bandwidth' }] }), slot); };
    await pause(a, false); await pause(c, true);
    for (const [scheme, w, h] of [['light', 1000, 640], ['dark', 1000, 640], ['light', 320, 560], ['dark', 320, 560]]) {
      await bob.page.emulateMedia({ colorScheme: scheme }); await bob.page.setViewportSize({ width: w, height: h }); await sleep(700);
      await bob.page.screenshot({ path: `${out}/${scheme}-${w}.png` });
      await bob.page.evaluate(() => { const s = [...document.querySelectorAll('select')]; return s.length; });
    }
    await bob.page.setViewportSize({ width: 1000, height: 640 });
    await bob.page.evaluate(() => document.querySelector('[data-testid=pin-button]').click()); await sleep(900);
    await bob.page.screenshot({ path: `${out}/pinned-dark.png` });
    console.log('notes', await bob.page.evaluate(() => [...document.querySelectorAll('[data-testid=paused-note]')].map(n => [n.innerText, n.closest('[data-testid=tile]').ariaLabel])));
    const scale = []; await bob.page.evaluate(() => 0);
  }
} finally { await chromium.stop(); await server.stop(); }
