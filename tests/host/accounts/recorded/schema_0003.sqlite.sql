BEGIN TRANSACTION;
CREATE TABLE accelerators (
	accelerator_id VARCHAR(64) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	kind TEXT NOT NULL, 
	device VARCHAR(64) NOT NULL, 
	share DOUBLE NOT NULL, 
	token_sha256 VARCHAR(64) NOT NULL, 
	created_at DOUBLE NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	uid INTEGER, 
	process TEXT, 
	endpoints TEXT NOT NULL, 
	port INTEGER, 
	num_restarts INTEGER NOT NULL, 
	last_exit TEXT NOT NULL, 
	lease_seconds DOUBLE, 
	sample TEXT NOT NULL, 
	host_id VARCHAR(64) DEFAULT '' NOT NULL, 
	PRIMARY KEY (accelerator_id)
);
INSERT INTO "accelerators" VALUES('eia-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','first','{"name": "cpu.half", "memory_bytes": 4294967296, "fp32_tflops": null, "device_share": 0.5, "usd_per_hour": "0.05", "may_burst": false, "price_source": "cores x 0.048 USD", "device_kind": null, "device_memory_bytes": null, "cpu_share": null}','cpu:0',0.5,'abababababababababababababababababababababababababababababababab',1764264000.5,'ready',60600,'{"pid": 4242, "start_ticks": 987654, "boot_id": "8d3c0c5e-0000-4000-8000-000000000001", "uid": 60600}','["unix:/var/lib/ei/api.sock", "tcp:127.0.0.1:8600"]',8600,1,'killed by SIGKILL',30.0,'{"inferences": 7, "device_seconds": 1.5, "throttled_seconds": 0.25}','0123456789abcdef');
INSERT INTO "accelerators" VALUES('eia-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','o''second; -- ü','{"name": "bursty", "memory_bytes": 1073741824, "fp32_tflops": null, "device_share": 0.25, "usd_per_hour": null, "may_burst": true, "price_source": "", "device_kind": null, "device_memory_bytes": null, "cpu_share": null}','cpu:0',0.25,'cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',1764264001.25,'starting',NULL,NULL,'[]',NULL,0,'',NULL,'{"inferences": 0, "device_seconds": 0.0, "throttled_seconds": 0.0}','0123456789abcdef');
CREATE TABLE elastic_inference_schema (
	version_num VARCHAR(32) NOT NULL, 
	PRIMARY KEY (version_num)
);
INSERT INTO "elastic_inference_schema" VALUES('0003');
CREATE TABLE intervals (
	number INTEGER NOT NULL, 
	accelerator_id VARCHAR(64) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	accelerator_type VARCHAR(64) NOT NULL, 
	usd_per_hour VARCHAR(40), 
	started_at DOUBLE NOT NULL, 
	ended_at DOUBLE, 
	host_id VARCHAR(64) DEFAULT '' NOT NULL, 
	PRIMARY KEY (number)
);
INSERT INTO "intervals" VALUES(1,'eia-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','first','cpu.half','0.05',1764264000.5,NULL,'0123456789abcdef');
INSERT INTO "intervals" VALUES(2,'eia-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','o''second; -- ü','bursty',NULL,1764264001.25,1764265000.0,'0123456789abcdef');
CREATE TABLE meta (
	"key" VARCHAR(64) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema_version','2');
CREATE TABLE tags (
	accelerator_id VARCHAR(64) NOT NULL, 
	"key" VARCHAR(128) NOT NULL, 
	value VARCHAR(256) NOT NULL, 
	PRIMARY KEY (accelerator_id, "key")
);
INSERT INTO "tags" VALUES('eia-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','team','vision');
INSERT INTO "tags" VALUES('eia-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','cost','a''b');
CREATE TABLE usage_hours (
	accelerator_id VARCHAR(64) NOT NULL, 
	hour INTEGER NOT NULL, 
	inferences BIGINT NOT NULL, 
	device_seconds DOUBLE NOT NULL, 
	throttled_seconds DOUBLE NOT NULL, 
	PRIMARY KEY (accelerator_id, hour)
);
INSERT INTO "usage_hours" VALUES('eia-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',490073,1000,12.5,0.5);
INSERT INTO "usage_hours" VALUES('eia-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',490074,3,0.25,0.0);
CREATE INDEX ix_accelerators_token_sha256 ON accelerators (token_sha256);
CREATE INDEX ix_intervals_accelerator_id ON intervals (accelerator_id);
COMMIT;
