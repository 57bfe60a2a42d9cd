// Notes in PostgreSQL over HTTP:
//
//   GET /          which instance answers
//   GET /notes     the notes, oldest first
//   POST /notes    writes the body as a note and gives it back with its number
//   GET /health    200 when the database answers, 503 when not
//
// `node server.js --check` asks a running instance for its health; the exit code says what it is.
"use strict";

const { readFileSync } = require("node:fs");
const http = require("node:http");
const os = require("node:os");

const PORT = 3000;
const LONGEST_NOTE = 4096;

if (process.argv.includes("--check")) {
  const failed = () => process.exit(1);
  http.get({ port: PORT, host: "127.0.0.1", path: "/health" }, (answer) => process.exit(answer.statusCode === 200 ? 0 : 1))
    .on("error", failed)
    .setTimeout(4000, failed);
} else {
  serve();
}

function serve() {
  // PGHOST, PGUSER and PGDATABASE come from the environment.
  const { Pool } = require("pg");
  const password = readFileSync(process.env.PGPASSWORD_FILE, "utf8").trim();
  const database = new Pool({ password, max: 10, connectionTimeoutMillis: 3000 });
  // A connection that ends while nobody uses it; the next query makes another one.
  database.on("error", (error) => console.error(`lost a connection: ${error.message}`));

  const server = http.createServer((request, response) => {
    const reply = (status, body) => {
      response.writeHead(status, { "Content-Type": "application/json" });
      response.end(`${JSON.stringify(body)}\n`);
    };
    answer(request, database).then(
      ([status, body]) => reply(status, { instance: os.hostname(), ...body }),
      (error) => {
        console.error(`${request.method} ${request.url}: ${error.message}`);
        reply(503, { instance: os.hostname(), error: error.message });
      },
    );
  });
  server.listen(PORT, () => console.log(`${os.hostname()} listens on port ${PORT}`));

  // The first process of a container gets no signal that it does not ask for.
  for (const signal of ["SIGTERM", "SIGINT"]) {
    process.on(signal, () => {
      console.log(`ends with ${signal}`);
      server.close(() => process.exit(0));
      setTimeout(() => process.exit(0), 1000);
    });
  }
}

async function answer(request, database) {
  switch (`${request.method} ${request.url}`) {
    case "GET /":
      return [200, {}];
    case "GET /health":
      await database.query("SELECT 1");
      return [200, {}];
    case "GET /notes":
      return [200, { notes: (await database.query("SELECT id, text FROM note ORDER BY id")).rows }];
    case "POST /notes": {
      const text = await body(request);
      if (text === null) {
        return [413, { error: `a note has at most ${LONGEST_NOTE} bytes` }];
      }
      const { rows } = await database.query("INSERT INTO note (text) VALUES ($1) RETURNING id, text", [text]);
      return [201, { note: rows[0] }];
    }
    default:
      return [404, { error: "there is /, /notes and /health" }];
  }
}

async function body(request) {
  let text = "";
  for await (const part of request.setEncoding("utf8")) {
    text += part;
    if (text.length > LONGEST_NOTE) {
      return null;
    }
  }
  return text;
}
