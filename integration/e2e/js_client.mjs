// What @huggingface/hub does to a repository. One line a step, as steps.py.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import {
	checkRepoAccess, commit, countCommits, createBranch, createRepo, deleteBranch, deleteFiles,
	deleteRepo, downloadFile, fileDownloadInfo, fileExists, listCommits, listFiles, listModels,
	modelInfo, pathsInfo, repoExists, uploadFile, uploadFiles, whoAmI,
} from "@huggingface/hub";

const hubUrl = process.env.HF_ENDPOINT;
const accessToken = process.env.HF_TOKEN;
const repo = { type: "model", name: "alice/js" };
const at = { repo, accessToken, hubUrl };
const big = randomBytes(3 << 20);
const multi = randomBytes(24 << 20);
let failed = false;

async function step(name, f) {
	try {
		await f();
		console.log(`ok js: ${name}`);
	} catch (e) {
		failed = true;
		console.error(e);
		console.log(`not ok js: ${name}: ${String(e.message).split("\n")[0]}`);
	}
}

async function collect(iterable) {
	const all = [];
	for await (const x of iterable) all.push(x);
	return all;
}

async function bytes(path, opts = {}) {
	const blob = await downloadFile({ ...at, path, ...opts });
	assert.ok(blob, `${path} is missing`);
	return Buffer.from(await blob.arrayBuffer());
}

await step("whoAmI", async () => {
	assert.equal((await whoAmI({ accessToken, hubUrl })).name, "alice");
});

await step("createRepo, repoExists, checkRepoAccess", async () => {
	await createRepo(at);
	assert.equal(await repoExists(at), true);
	assert.equal(await repoExists({ ...at, repo: { type: "model", name: "alice/js-nowhere" } }), false);
	await checkRepoAccess(at);
	await assert.rejects(createRepo(at), (e) => e.statusCode === 409);
});

await step("upload a regular file", async () => {
	await uploadFile({ ...at, file: { path: "data/x y.txt", content: new Blob(["hello\n"]) }, commitTitle: "add text" });
	assert.equal((await bytes("data/x y.txt")).toString(), "hello\n");
	const [info] = await pathsInfo({ ...at, paths: ["data/x y.txt"] });
	const oid = createHash("sha1").update("blob 6\0hello\n").digest("hex");
	assert.deepEqual([info.type, info.size, info.oid, info.lfs], ["file", 6, oid, undefined]);
});

await step("upload LFS files (basic and multipart)", async () => {
	await uploadFiles({
		...at,
		files: [
			{ path: "w.bin", content: new Blob([big]) },
			{ path: "m/w.bin", content: new Blob([multi]) },
		],
		commitTitle: "add weights",
	});
	for (const [path, data] of [["w.bin", big], ["m/w.bin", multi]]) {
		const [info] = await pathsInfo({ ...at, paths: [path] });
		assert.equal(info.lfs.oid, createHash("sha256").update(data).digest("hex"));
		assert.ok((await bytes(path)).equals(data), `${path} differs`);
	}
});

await step("an empty file", async () => {
	await uploadFile({ ...at, file: { path: "empty", content: new Blob([]) } });
	assert.equal((await pathsInfo({ ...at, paths: ["empty"] }))[0].size, 0);
	assert.equal((await fileDownloadInfo({ ...at, path: "empty" })).size, 0);
});

await step("list files, flat and recursive", async () => {
	const flat = (await collect(listFiles(at))).map((f) => f.path).sort();
	assert.deepEqual(flat, [".gitattributes", "data", "empty", "m", "w.bin"]);
	const deep = (await collect(listFiles({ ...at, recursive: true }))).map((f) => f.path);
	assert.ok(deep.includes("data/x y.txt") && deep.includes("m/w.bin"), deep.join(" "));
	const [one] = await collect(listFiles({ ...at, path: "data", expand: true }));
	assert.equal(one.lastCommit.title, "add text");
});

await step("ranged downloads", async () => {
	const blob = await downloadFile({ ...at, path: "m/w.bin" });
	assert.equal(blob.size, multi.length);
	const part = Buffer.from(await blob.slice(5_000_001, 5_070_001).arrayBuffer());
	assert.ok(part.equals(multi.subarray(5_000_001, 5_070_001)), "the slice differs");
	const info = await fileDownloadInfo({ ...at, path: "w.bin" });
	assert.equal(info.size, big.length);
	assert.equal(await downloadFile({ ...at, path: "never" }), null);
});

await step("commits and modelInfo", async () => {
	const all = await collect(listCommits(at));
	assert.equal(await countCommits(at), all.length);
	assert.equal(all[0].authors[0].username, "alice");
	assert.ok(all.some((c) => c.title === "add weights"));
	const info = await modelInfo({ name: repo.name, accessToken, hubUrl, additionalFields: ["sha"] });
	assert.deepEqual([info.name, info.sha], [repo.name, all[0].oid]);
	const models = (await collect(listModels({ search: { owner: "alice" }, accessToken, hubUrl }))).map((m) => m.name);
	assert.ok(models.includes(repo.name), models.join(" "));
});

await step("branches", async () => {
	await createBranch({ ...at, branch: "dev" });
	await uploadFile({ ...at, branch: "dev", file: { path: "dev.txt", content: new Blob(["dev\n"]) } });
	assert.equal((await bytes("dev.txt", { revision: "dev" })).toString(), "dev\n");
	assert.equal(await fileExists({ ...at, path: "dev.txt" }), false);
	assert.equal(await fileExists({ ...at, path: "dev.txt", revision: "dev" }), true);
	await createBranch({ ...at, branch: "gone" });
	await deleteBranch({ ...at, branch: "gone" });
	await assert.rejects(collect(listFiles({ ...at, revision: "gone" })), (e) => e.statusCode === 404);
});

await step("pull request", async () => {
	const made = await uploadFile({
		...at, isPullRequest: true, commitTitle: "propose",
		file: { path: "data/pr.txt", content: new Blob(["pr\n"]) },
	});
	assert.match(made.pullRequestUrl, /\/discussions\/1$/);
	assert.equal((await bytes("data/pr.txt", { revision: "refs/pr/1" })).toString(), "pr\n");
	const listed = (await collect(listFiles({ ...at, path: "data", revision: "refs/pr/1" }))).map((f) => f.path);
	assert.deepEqual(listed.sort(), ["data/pr.txt", "data/x y.txt"]);
});

await step("a commit of add and delete, guarded by its parent", async () => {
	const [head] = await collect(listCommits(at));
	const made = await commit({
		...at, title: "both", parentCommit: head.oid,
		operations: [
			{ operation: "addOrUpdate", path: "data/z.txt", content: new Blob(["z\n"]) },
			{ operation: "delete", path: "empty" },
		],
	});
	assert.notEqual(made.commit.oid, head.oid);
	assert.equal(await fileExists({ ...at, path: "empty" }), false);
	await assert.rejects(
		commit({ ...at, title: "stale", parentCommit: head.oid, operations: [{ operation: "delete", path: "data/z.txt" }] }),
		(e) => e.statusCode === 412,
	);
});

await step("delete files and a repository", async () => {
	await deleteFiles({ ...at, paths: ["data/z.txt"] });
	assert.equal(await fileExists({ ...at, path: "data/z.txt" }), false);
	const other = { ...at, repo: { type: "dataset", name: "alice/js-gone" } };
	await createRepo(other);
	await deleteRepo(other);
	assert.equal(await repoExists(other), false);
});

process.exit(failed ? 1 : 0);
