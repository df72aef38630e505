// gRPC from Node: `node grpc_js.cjs HOST:PORT DESCRIPTORS IMAGES_PROTO`, DESCRIPTORS being a FileDescriptorSet.
const assert = require("assert");
const fs = require("fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [address, descriptors, imagesProto] = process.argv.slice(2);
const options = { keepCase: true, longs: Number, defaults: true };
const kserve = loader.loadFileDescriptorSetFromBuffer(fs.readFileSync(descriptors), options);
const images = loader.loadSync(imagesProto, options);
const open = (loaded, service, channel = {}) => {
  const Client = grpc.loadPackageDefinition(loaded)[service[0]];
  return new (service.slice(1).reduce((at, name) => at[name], Client))(
    address, grpc.credentials.createInsecure(), channel);
};
const call = (client, name, message, metadata = new grpc.Metadata()) =>
  new Promise((resolve, reject) =>
    client[name](message, metadata, { deadline: Date.now() + 30000 }, (error, answer) => (error ? reject(error) : resolve(answer))));

async function main() {
  // 2: gzip, by grpc-js's numbers of compression algorithms.
  for (const channel of [{}, { "grpc.default_compression_algorithm": 2, "grpc.keepalive_time_ms": 10000 }]) {
    const tensors = open(kserve, ["inference", "GRPCInferenceService"], channel);
    assert((await call(tensors, "ServerLive", {})).live);
    const latent = Buffer.from(new Float32Array(16).fill(1).buffer);
    const inputs = [{ name: "latent", datatype: "FP32", shape: [4, 4] }];
    const request = { model_name: "tiny", id: "7", inputs, raw_input_contents: [latent] };
    const answer = await call(tensors, "ModelInfer", request);
    assert.deepStrictEqual([answer.id, answer.outputs[0].shape, answer.raw_output_contents[0].length], ["7", [4, 2, 2, 3], 48]);
    const stream = tensors.ModelStreamInfer();
    const streamed = [];
    const ended = new Promise((resolve, reject) => stream.on("data", (each) => streamed.push(each)).on("error", reject).on("end", resolve));
    for (let index = 0; index < 3; index++) stream.write({ ...request, id: String(index) });
    stream.end();
    await ended;
    assert.deepStrictEqual(streamed.map((each) => [each.error_message, each.infer_response.id]), [["", "0"], ["", "1"], ["", "2"]]);
    await assert.rejects(call(tensors, "ModelInfer", { ...request, model_name: "nobody" }), { code: grpc.status.NOT_FOUND });
    tensors.close();
    const generators = open(images, ["ganserve", "v1", "ImageService"], channel);
    const generated = await call(generators, "Generate", { model: "styled", seeds: { values: [1, 2] }, labels: ["one"] });
    assert.deepStrictEqual(generated.images.map((each) => [each.seed, each.width, each.height]), [[1, 4, 2], [2, 4, 2]]);
    generators.close();
  }
  console.log("done");
}

main().catch((error) => { console.error(error); process.exit(1); });
