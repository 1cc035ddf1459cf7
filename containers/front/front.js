// What the proxy's own directives cannot decide: whether the key fits, and whether a body's JSON is one Triton survives.

import crypto from 'crypto';
import fs from 'fs';

// Triton 24.10 parses nested JSON by recursion and dies between 100,000 and 150,000 brackets deep. No more than these are
// opened in all, so none can be that deep; an array of numbers needs one for every row.
const BRACKETS = 20000;
const JSON_BYTES = 1 << 20;
const OPENING = ['[', '{'].map((bracket) => bracket.charCodeAt(0));

// 'yes' where the server has no key or the header holds it. Digests are compared, so time tells nothing of the key.
function keyFits(r) {
    const key = process.env.KIT_KEY;
    const digest = (text) => crypto.createHash('sha256').update(text).digest('hex');
    return !key || digest(r.headersIn['Authorization'] || '') === digest(`Bearer ${key}`) ? 'yes' : 'no';
}

// Pass an inference on, unless its JSON is too much. Binary tensors follow the JSON, whose length a header gives; they
// are never looked at.
async function inspect(r) {
    const length = jsonLength(r);
    if (length === null) {
        refuse(r, 400, 'Inference-Header-Content-Length must be the number of bytes of the JSON that the body starts with.');
    } else if (length > JSON_BYTES) {
        refuse(r, 413, `The JSON has ${length} bytes; at most ${JSON_BYTES} are taken. Send tensors in binary form.`);
    } else if (opensTooMany(await start(r, length))) {
        refuse(r, 400, `The JSON opens more than ${BRACKETS} brackets. Send data flat, or in binary form.`);
    } else {
        r.internalRedirect('@inspected');
    }
}

function refuse(r, status, error) {
    r.headersOut['Content-Type'] = 'application/json';
    r.return(status, JSON.stringify({ error }));
}

function jsonLength(r) {
    const body = bodyLength(r);
    const given = r.headersIn['Inference-Header-Content-Length'];
    if (given === undefined) {
        return body;
    }
    return /^[0-9]{1,12}$/.test(given) && Number(given) <= body ? Number(given) : null;
}

// Bodies lie in files, so that a large one is never held in memory to look at its beginning; an empty one has no file.
function bodyLength(r) {
    const file = r.variables.request_body_file;
    return file ? fs.statSync(file).size : 0;
}

async function start(r, length) {
    const bytes = Buffer.alloc(length);
    if (length > 0) {
        const handle = await fs.promises.open(r.variables.request_body_file);
        await handle.read(bytes, 0, length, 0);
        await handle.close();
    }
    return bytes;
}

function opensTooMany(bytes) {
    let count = 0;
    return OPENING.some((bracket) => {
        for (let at = bytes.indexOf(bracket); at >= 0; at = bytes.indexOf(bracket, at + 1)) {
            count += 1;
            if (count > BRACKETS) {
                return true;
            }
        }
        return false;
    });
}

export default { keyFits, inspect };
