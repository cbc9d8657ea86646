CREATE TABLE public.accelerators (
    accelerator_id character varying(64) NOT NULL,
    name character varying(255) NOT NULL,
    kind text NOT NULL,
    device character varying(64) NOT NULL,
    share double precision NOT NULL,
    token_sha256 character varying(64) NOT NULL,
    created_at double precision NOT NULL,
    state character varying(16) NOT NULL,
    uid integer,
    process text,
    endpoints text NOT NULL,
    port integer,
    num_restarts integer NOT NULL,
    last_exit text NOT NULL,
    lease_seconds double precision,
    sample text NOT NULL,
    host_id character varying(64) DEFAULT ''::character varying NOT NULL
);
CREATE TABLE public.elastic_inference_schema (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.intervals (
    number integer NOT NULL,
    accelerator_id character varying(64) NOT NULL,
    name character varying(255) NOT NULL,
    accelerator_type character varying(64) NOT NULL,
    usd_per_hour character varying(40),
    started_at double precision NOT NULL,
    ended_at double precision,
    host_id character varying(64) DEFAULT ''::character varying NOT NULL
);
CREATE SEQUENCE public.intervals_number_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.intervals_number_seq OWNED BY public.intervals.number;
CREATE TABLE public.meta (
    key character varying(64) NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.tags (
    accelerator_id character varying(64) NOT NULL,
    key character varying(128) NOT NULL,
    value character varying(256) NOT NULL
);
CREATE TABLE public.usage_hours (
    accelerator_id character varying(64) NOT NULL,
    hour integer NOT NULL,
    inferences bigint NOT NULL,
    device_seconds double precision NOT NULL,
    throttled_seconds double precision NOT NULL
);
ALTER TABLE ONLY public.intervals ALTER COLUMN number SET DEFAULT nextval('public.intervals_number_seq'::regclass);
INSERT INTO public.accelerators VALUES ('eia-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'first', '{"name": "cpu.half", "memory_bytes": 4294967296, "fp32_tflops": null, "device_share": 0.5, "usd_per_hour": "0.05", "may_burst": false, "price_source": "cores x 0.048 USD", "device_kind": null, "device_memory_bytes": null, "cpu_share": null}', 'cpu:0', 0.5, 'abababababababababababababababababababababababababababababababab', 1764264000.5, 'ready', 60600, '{"pid": 4242, "start_ticks": 987654, "boot_id": "8d3c0c5e-0000-4000-8000-000000000001", "uid": 60600}', '["unix:/var/lib/ei/api.sock", "tcp:127.0.0.1:8600"]', 8600, 1, 'killed by SIGKILL', 30, '{"inferences": 7, "device_seconds": 1.5, "throttled_seconds": 0.25}', '0123456789abcdef');
INSERT INTO public.accelerators VALUES ('eia-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'o''second; -- ü', '{"name": "bursty", "memory_bytes": 1073741824, "fp32_tflops": null, "device_share": 0.25, "usd_per_hour": null, "may_burst": true, "price_source": "", "device_kind": null, "device_memory_bytes": null, "cpu_share": null}', 'cpu:0', 0.25, 'cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd', 1764264001.25, 'starting', NULL, NULL, '[]', NULL, 0, '', NULL, '{"inferences": 0, "device_seconds": 0.0, "throttled_seconds": 0.0}', '0123456789abcdef');
INSERT INTO public.elastic_inference_schema VALUES ('0003');
INSERT INTO public.intervals VALUES (1, 'eia-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'first', 'cpu.half', '0.05', 1764264000.5, NULL, '0123456789abcdef');
INSERT INTO public.intervals VALUES (2, 'eia-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'o''second; -- ü', 'bursty', NULL, 1764264001.25, 1764265000, '0123456789abcdef');
INSERT INTO public.meta VALUES ('schema_version', '2');
INSERT INTO public.tags VALUES ('eia-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'team', 'vision');
INSERT INTO public.tags VALUES ('eia-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'cost', 'a''b');
INSERT INTO public.usage_hours VALUES ('eia-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 490073, 1000, 12.5, 0.5);
INSERT INTO public.usage_hours VALUES ('eia-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 490074, 3, 0.25, 0);
SELECT pg_catalog.setval('public.intervals_number_seq', 2, true);
ALTER TABLE ONLY public.accelerators
    ADD CONSTRAINT accelerators_pkey PRIMARY KEY (accelerator_id);
ALTER TABLE ONLY public.elastic_inference_schema
    ADD CONSTRAINT elastic_inference_schema_pkey PRIMARY KEY (version_num);
ALTER TABLE ONLY public.intervals
    ADD CONSTRAINT intervals_pkey PRIMARY KEY (number);
ALTER TABLE ONLY public.meta
    ADD CONSTRAINT meta_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.tags
    ADD CONSTRAINT tags_pkey PRIMARY KEY (accelerator_id, key);
ALTER TABLE ONLY public.usage_hours
    ADD CONSTRAINT usage_hours_pkey PRIMARY KEY (accelerator_id, hour);
CREATE INDEX ix_accelerators_token_sha256 ON public.accelerators USING btree (token_sha256);
CREATE INDEX ix_intervals_accelerator_id ON public.intervals USING btree (accelerator_id);
