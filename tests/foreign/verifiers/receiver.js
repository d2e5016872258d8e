// A receiver as somebody writes it in JavaScript: it verifies, and answers 204 or 400.
const crypto = require("node:crypto");
const http = require("node:http");

const key = Buffer.from(process.env.SECRET.replace("whsec_", ""), "base64");

http
  .createServer((request, response) => {
    const pieces = [];
    request.on("data", (piece) => pieces.push(piece));
    request.on("end", () => {
      const { headers } = request;
      const hmac = crypto.createHmac("sha256", key);
      hmac.update(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.`);
      hmac.update(Buffer.concat(pieces));
      const wanted = Buffer.from(`v1,${hmac.digest("base64")}`);
      const isOurs = (headers["webhook-signature"] || "").split(" ").some((given) => {
        const bytes = Buffer.from(given);
        return bytes.length === wanted.length && crypto.timingSafeEqual(bytes, wanted);
      });
      response.writeHead(isOurs ? 204 : 400).end();
    });
  })
  .listen(Number(process.argv[2]), "127.0.0.1");
